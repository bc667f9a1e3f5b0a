"""The site: its pages, its configuration reference, its figures, and that it asks no one for anything."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlparse

import pytest
import yaml

from fastfcn.documentation import __main__ as command
from fastfcn.documentation import figures, pages, reference
from fastfcn.documentation.building import build, configuration, lay_out, listed
from fastfcn.documentation.commented_yaml import ConfigFile, Key, read
from fastfcn.errors import UserError
from tests.commands import commands

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
FILES = sorted(CONF.rglob("*.yaml"))
REFERENCE = reference.pages(CONF)


# The reference


def leaves(node: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """What a file sets: names with dots, and values; a mapping on one line is a value."""
    for key, value in node.items():
        if key not in ("defaults", "_target_", "_partial_", "_convert_") or above:
            if isinstance(value, dict) and value:
                yield from leaves(value, f"{above}{key}.")
            else:
                yield f"{above}{key}", value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_the_reference_has_every_key_with_its_value(path: Path) -> None:
    file, content = read(path), yaml.safe_load(path.read_text()) or {}
    found = {key.name: key for key in file.keys}
    for name, value in leaves(content):
        if name.split(".")[-1] in ("_target_", "_partial_", "_convert_"):
            continue
        key = next(found[name[:end]] for end in [len(name), *_dots(name)] if name[:end] in found)
        shown = yaml.safe_load(key.default)
        for inner in name[len(key.name) + 1 :].split(".") if name != key.name else []:
            shown = shown[inner]
        assert shown == value, name
    assert file.target == content.get("_target_", "")
    group = path.parent.relative_to(CONF).as_posix()
    page = REFERENCE[f"configuration/{path.stem if group == '.' else 'group-' + group.replace('/', '-')}.md"]
    for key in file.keys:
        if key.kind != "mapping":
            assert f".{key.name}`" in page or f"| `{key.name}` |" in page, key.name


def _dots(name: str) -> list[int]:
    return [match.start() for match in reversed(list(re.finditer(r"\.", name)))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CONF).as_posix())
def test_every_comment_of_a_file_is_in_the_reference(path: Path) -> None:
    file = read(path)
    said = " ".join(
        [*file.about, *(key.comment for key in file.keys), *(c.comment for c in file.choices), file.closing]
    )
    for line in path.read_text().splitlines():
        comment = re.search(r"(?:^|\s)# ?(.+)$", line)
        silent = re.match(r"\s*(# @package|- _self_|_partial_:|_convert_:)", line)  # of Hydra, nothing to set
        if comment and not silent:
            # A sentence that follows another one begins with a capital there.
            assert comment[1].strip()[1:] in said, comment[1]


def test_which_key_a_comment_belongs_to(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "# @package _global_\n# The head\n#   python src/a.py\n_target_: a.B\n"
        "x: 1  # of x,\n       # and more\n\n# Before y.\ny: '#no'  # of y\n"
        "z:  # of z\n  - 1  # one\n  - {a: 2}\nw: {a: [1, 2]}\nv:\n  # before u\n  u: null\n# The end.\n"
    )
    assert read(file) == ConfigFile(
        about=("The head", "  python src/a.py"),
        at_root=True,
        target="a.B",
        choices=(),
        keys=(
            Key("x", "1", "of x, and more", "value"),
            Key("y", "'#no'", "Before y. Of y", "value"),
            Key("z", "[1, {a: 2}]", "of z; one", "value"),
            Key("w", "{a: [1, 2]}", "", "value"),
            Key("v", "", "", "mapping"),
            Key("v.u", "null", "before u", "value"),
        ),
        closing="The end.",
    )


@pytest.mark.parametrize(("text", "words"), [("a: [1", "is no YAML"), ("- 1\n", "holds no mapping")])
def test_what_is_no_configuration_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=f"a.yaml {words}"):
        read(tmp_path / "a.yaml")


def test_names_are_those_of_the_command_line() -> None:
    made = REFERENCE
    assert "| `data.dataset.root` | `???` | the data set's folder |" in made["configuration/group-data.md"]
    assert "| `hydra.sweeper.trials` | `20` |" in made["configuration/group-hydra-sweeper.md"]
    assert "## `experiment=camvid/r18`" in made["configuration/group-experiment-camvid.md"]
    assert "| `upsample.dilations` | `[1, 2, 4, 8]` |" in made["configuration/group-upsample.md"]  # @package _global_
    assert "| [`backbone`](group-backbone.md) | `resnet50` |" in made["configuration/train.md"]


# The pages


def test_the_navigation_has_every_page_and_no_other() -> None:
    """A page that is new: add it to nav in docs/zensical.toml."""
    named = listed(ROOT)
    assert len(named) == len(set(named))
    assert set(named) == {*pages.sources(ROOT).values(), *REFERENCE}


def test_links_lead_to_pages_or_lose_their_target(tmp_path: Path) -> None:
    (tmp_path / "docs/images").mkdir(parents=True)
    for name in pages.BESIDE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"[here]({'../' * name.count('/')}docs/a.md)")
    (tmp_path / "docs/b.png").touch()
    (tmp_path / "docs/sub").mkdir()
    (tmp_path / "docs/sub/c.md").write_text(
        "![b](../b.png) [a](../a.md#x) [d](../../data/README.md) [e](https://e.org/x)"
    )
    (tmp_path / "docs/a.md").write_text("[`code`](../CONTRIBUTING.md) [file](../data/x.py) `[no](link)` [top](#top)")
    (tmp_path / "data/x.py").touch()
    found = pages.collect(tmp_path)
    assert found["a.md"] == "[`code`](contributing.md) file `[no](link)` [top](#top)"
    assert found["sub/c.md"] == "![b](../b.png) [a](../a.md#x) [d](../data.md) [e](https://e.org/x)"
    assert found["contributing.md"] == "[here](a.md)"
    (tmp_path / "docs/a.md").write_text("[gone](gone.md)")
    with pytest.raises(UserError, match=r"docs/a\.md links to gone\.md, which is not there"):
        pages.collect(tmp_path)


# The figures


def test_the_figures_are_those_of_the_code() -> None:
    for path, text in figures.draw(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, "python -m fastfcn.documentation.figures"
        assert text == figures.draw(ROOT)[path]
        root = ET.fromstring(text)
        assert root.find("{http://www.w3.org/2000/svg}title") is not None
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_they_show_what_conf_says() -> None:
    drawn = figures.joint_pyramid_upsampling({"width": 96, "dilations": [1, 3]}).write()
    assert "dilation 3" in drawn
    assert "dilation 2" not in drawn
    assert {">288<", ">192<"} <= set(re.findall(r">\d+<", drawn))  # y_c and y


def test_words_stay_on_the_sheet() -> None:
    """By a generous width of a letter, of bold ones too."""
    for text in figures.draw(ROOT).values():
        root = ET.fromstring(text)
        width = float(root.attrib["width"])
        for node in root.iter("{http://www.w3.org/2000/svg}text"):
            long = len(node.text or "") * (7.4 if "font-weight" in node.attrib else 6.9)
            left = float(node.attrib["x"]) - long * {"start": 0, "middle": 0.5, "end": 1}[node.attrib["text-anchor"]]
            assert left >= 0, node.text
            assert left + long <= width, node.text


# The site


class Asked(HTMLParser):
    """What a page has a browser fetch, and where its links lead."""

    FETCHED: ClassVar = {
        ("script", "src"),
        ("img", "src"),
        ("link", "href"),
        ("iframe", "src"),
        ("source", "src"),
        ("source", "srcset"),
    }

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: set[str] = set()
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (tag, name) in self.FETCHED:
                self.fetched.add(value)
            elif value and (tag, name) == ("a", "href"):
                self.links.add(value)
            elif value and name == "id":
                self.ids.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("zensical")
    return build(ROOT, tmp_path_factory.mktemp("documentation")).parent


def test_the_site_is_built_and_asks_no_one(site: Path) -> None:
    files = sorted(site.rglob("*.html"))
    assert len(files) > 50
    asked = {file: Asked(file.read_text(encoding="utf-8")) for file in files}
    for file, page in asked.items():
        for address in page.fetched:
            assert not urlparse(address).scheme or address.startswith("data:"), f"{file}: {address}"
            assert not address.startswith("//"), f"{file}: {address}"
        for address in page.fetched | page.links:
            at = urlparse(address)
            if not at.scheme and file.name != "404.html":
                target = (file.parent / unquote(at.path)).resolve() if at.path else file
                target = target / "index.html" if target.is_dir() else target
                assert target.exists(), f"{file}: {address}"
                if at.fragment and target in asked:
                    assert unquote(at.fragment) in asked[target].ids, f"{file}: {address}"
        # What Zensical's script would fetch from elsewhere, were it on a page.
        text = file.read_text(encoding="utf-8")
        assert 'class="mermaid"' not in text
        assert "glightbox" not in text
    for style in site.rglob("*.css"):
        found = re.findall(r"url\(['\"]?([^)'\"]+)|@import\s+['\"]([^'\"]+)", style.read_text(encoding="utf-8"))
        assert not [address for pair in found for address in pair if re.match(r"(https?:)?//", address)], style


def test_what_zensical_makes_of_the_tables(site: Path) -> None:
    text = (site / "configuration/group-data.html").read_text(encoding="utf-8")
    assert "<table>" in text
    assert "albumentations.ColorJitter" in text
    assert "reduce_zero_label" in text
    assert "<em>" not in re.sub(r"(?s)<head>.*?</head>", "", text)  # no underscore of a name was taken for a mark


def test_commands_are_code_in_the_site_too(site: Path) -> None:
    """Python-Markdown takes an indented block behind a list for a part of the list: there a fence is needed."""
    names = pages.sources(ROOT)
    for path, name in names.items():
        text = (site / name).with_suffix(".html").read_text(encoding="utf-8")
        code = unescape(re.sub(r"<[^>]+>", "", " ".join(re.findall(r"(?s)<pre.*?</pre>", text))))
        for shown in commands(ROOT / path):
            assert shown.text in re.sub(r"\\\n\s*", "", code), f"{path}: {shown.text}"


def test_a_real_browser_asks_no_one(site: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chrome = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chrome is None:
        pytest.skip("there is no browser")
    asked: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chrome, args=["--no-sandbox", "--disable-background-networking"]
        )
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for width, name in ((1400, "index.html"), (400, "configuration/group-data.html"), (400, "concepts.html")):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto((site / name).as_uri(), wait_until="load")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (
                f"{name} is wider than a window of {width}"
            )
            assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        page.set_viewport_size({"width": 1400, "height": 900})
        page.click("button:has-text('Search')")
        page.keyboard.type("reduce_zero_label")  # a key of conf/data/folder.yaml
        page.wait_for_selector("text=1 result", timeout=10_000)
        browser.close()
    assert len(asked) > 10
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


# Mistakes


def copy_of_the_pages(folder: Path) -> Path:
    for name in ("docs", "conf"):
        shutil.copytree(ROOT / name, folder / name)
    for name in pages.BESIDE:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for path in (*(ROOT / "tests").rglob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")):
        (folder / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.relative_to(ROOT))
    return folder


def test_a_wrong_anchor_ends_the_build(tmp_path: Path) -> None:
    pytest.importorskip("zensical")
    root = copy_of_the_pages(tmp_path)
    (root / "docs/start.md").write_text("# Start\n\n[there](concepts.md#nowhere)\n")
    with pytest.raises(UserError, match=r"(?s)the pages cannot be built.*nowhere"):
        build(root, tmp_path / "out")


def test_mistakes_are_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main([]) == 2
    assert "has no docs/zensical.toml: call this in the folder of the repository." in capsys.readouterr().err
    assert command.main(["to=x"]) == 2
    assert capsys.readouterr().err == "error: to=x: give out=<folder> or nothing.\n"
    assert figures.main() == 2
    assert "call this in the folder of the repository" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    root = copy_of_the_pages(tmp_path / "root")
    settings = root / "docs/zensical.toml"
    settings.write_text(settings.read_text().replace('"configuration",', ""))
    with pytest.raises(UserError, match='no place for the reference: write "configuration" in nav once'):
        configuration(root)


def test_what_was_there_before_is_gone(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/old.md").touch()
    (tmp_path / "mine.txt").touch()
    lay_out(ROOT, tmp_path)
    assert not (tmp_path / "source/old.md").exists()
    assert (tmp_path / "mine.txt").exists()
    assert (tmp_path / "source/configuration/index.md").is_file()
