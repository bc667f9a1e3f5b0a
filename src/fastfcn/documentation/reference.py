"""The configuration reference: a page for each script and each group, made from the files of conf/."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fastfcn.documentation.commented_yaml import Choice, ConfigFile, Key, read

#: Where the pages stand among the others.
FOLDER = "configuration"
#: One option's files are alike, and many: they come last.
LAST = ("experiment", "hydra")
#: Characters of which Markdown or HTML would make something.
MARKS = re.compile(r"[\\*_\[\]{}|<>#~^=&`$@]")

INTRODUCTION = """\
# Configuration

Every value has a name, `data.batch_size`, and is set on the command line as `name=value`; `group=option` chooses a
file of a group. `--cfg job` behind a script prints what it would run with, `--help` the options of each group.

These pages are made from the files of `conf/` when the documentation is built: keys, defaults and what is said of them
stand there and nowhere else. `${name}` is the value of another key, `null` is none, `???` must be given. What only one
machine needs goes to `conf/local/default.yaml`, which git does not track. Commands with `data=pascal_context`,
`data=ade20k`, `data=folder` or `experiment=...` need the data.

"""


def pages(conf: Path) -> dict[str, str]:
    """Make the reference.

    Args:
        conf: the folder of the scripts' configurations, with a folder for each group.

    Returns:
        Markdown by the name of the page, ``configuration/index.md`` first, then the scripts', then the groups'.
    """
    scripts = sorted(conf.glob("*.yaml"))
    groups = sorted(
        {path.parent for path in conf.rglob("*.yaml") if path.parent != conf}, key=lambda p: _order(conf, p)
    )
    names = [group.relative_to(conf).as_posix() for group in groups]
    made = {f"{FOLDER}/{script.stem}.md": _script(script, names) for script in scripts}
    made |= {f"{FOLDER}/{_page(name)}": _group(conf / name, name, names) for name in names}
    return {f"{FOLDER}/index.md": _index(scripts, conf, names), **made}


def sources(conf: Path) -> dict[str, str]:
    """Pages by what they are made of, ``conf/train.yaml``, or ``conf/backbone`` and each file in it."""
    root = conf.parent
    made = {conf.name: f"{FOLDER}/index.md"}
    for path in conf.rglob("*.yaml"):
        group = path.parent.relative_to(conf).as_posix()
        page = f"{FOLDER}/{path.stem}.md" if path.parent == conf else f"{FOLDER}/{_page(group)}"
        made[path.relative_to(root).as_posix()] = page
        if path.parent != conf:
            made[path.parent.relative_to(root).as_posix()] = page
    return made


def navigation(conf: Path) -> list[dict[str, str]]:
    """The pages under the names that they have in the site's navigation."""
    titles = {page: text.splitlines()[0].removeprefix("# ").replace("`", "") for page, text in pages(conf).items()}
    return [{title: page} for page, title in titles.items()]


def _order(conf: Path, group: Path) -> tuple[bool, str]:
    name = group.relative_to(conf).as_posix()
    return name.startswith(LAST), name


def _page(group: str) -> str:
    return f"group-{group.replace('/', '-')}.md"


def _index(scripts: Sequence[Path], conf: Path, groups: Sequence[str]) -> str:
    rows = [f"| [`{p.stem}.py`]({p.stem}.md) | {_prose(_first(read(p)))} |" for p in scripts]
    of_groups = [f"| [`{name}`]({_page(name)}) | {_options(conf / name)} |" for name in groups]
    return (
        INTRODUCTION
        + "\n".join(["| script | |", "| --- | --- |", *rows])
        + "\n\n"
        + "\n".join(["| group | options |", "| --- | --- |", *of_groups])
        + "\n"
    )


def _options(folder: Path) -> str:
    return " ".join(f"`{path.stem}`" for path in sorted(folder.glob("*.yaml")))


def _script(path: Path, groups: Sequence[str]) -> str:
    file = read(path)
    parts = [f"# `src/{path.stem}.py`", *_about(file)]
    chosen = [choice for choice in file.choices if choice.group]
    if chosen:
        parts += ["## Groups", _choices(chosen, groups)]
    if file.keys:
        parts += ["## Keys", _keys(file.keys, "")]
    return "\n\n".join(parts) + "\n"


def _group(folder: Path, name: str, groups: Sequence[str]) -> str:
    parts = [f"# `{name}`"]
    for path in sorted(folder.glob("*.yaml")):
        file = read(path)
        parts += [f"## `{_chosen_by(name, path.stem)}`", *_about(file)]
        if file.target:
            parts.append(f"Builds `{file.target}`.")
        parts += list(_base(file.choices, groups))
        prefix = "" if file.at_root else f"{name.replace('/', '.')}."
        if file.keys:
            parts.append(_keys(file.keys, prefix))
        if file.closing:
            parts.append(_prose(file.closing))
    return "\n\n".join(parts) + "\n"


def _chosen_by(group: str, option: str) -> str:
    """What is written on the command line; experiments lie in folders of one group."""
    first, _, rest = group.partition("/")
    return f"experiment={rest}/{option}" if first == "experiment" else f"{group}={option}"


def _base(choices: Iterable[Choice], groups: Sequence[str]) -> Iterator[str]:
    beside = [f"`{choice.option}`" for choice in choices if not choice.group]
    chosen = [f"{_link(choice.group, groups)} = `{choice.option}`" for choice in choices if choice.group]
    if beside:
        yield f"On top of {', '.join(beside)}."
    if chosen:
        yield f"Chooses {', '.join(chosen)}."


def _choices(choices: Iterable[Choice], groups: Sequence[str]) -> str:
    rows = [f"| {_link(c.group, groups)} | {_code(c.option)} | {_prose(c.comment)} |" for c in choices]
    return "\n".join(["| group | option | |", "| --- | --- | --- |", *rows])


def _link(group: str, groups: Sequence[str]) -> str:
    return f"[`{group}`]({_page(group)})" if group in groups else f"`{group}`"


def _keys(keys: Iterable[Key], prefix: str) -> str:
    rows = [
        f"| {_code(prefix + key.name)} | {_code(key.default)} | {_prose(key.comment)} |"
        for key in keys
        if key.kind != "mapping" or key.comment
    ]
    return "\n".join(["| key | default | |", "| --- | --- | --- |", *rows])


def _first(file: ConfigFile) -> str:
    """The first sentence of a file's head."""
    text = " ".join(next((lines for is_command, lines in _runs(file.about) if not is_command), []))
    return re.split(r"(?<=\.) ", text)[0]


def _about(file: ConfigFile) -> Iterator[str]:
    """The head of a file: its sentences as paragraphs, its commands as blocks."""
    for is_command, lines in _runs(file.about):
        if is_command:
            yield "\n".join(["```sh", *(line.strip() for line in lines), "```"])
        else:
            yield _prose(" ".join(lines))


def _runs(lines: Sequence[str]) -> Iterator[tuple[bool, list[str]]]:
    block: list[str] = []
    for index, line in enumerate(lines):
        block.append(line)
        if index + 1 == len(lines) or lines[index + 1].startswith("  ") != line.startswith("  "):
            yield line.startswith("  "), block
            block = []


def _prose(text: str) -> str:
    """Text as it is read: what Markdown would take for a mark is none, but for code between backticks."""
    return "".join(
        _code(part[1:-1]) if part.startswith("`") and len(part) > 2 else MARKS.sub(lambda m: f"&#{ord(m[0])};", part)
        for part in re.split(r"(`[^`]+`)", text)
    )


def _code(text: str) -> str:
    return f"`{text}`".replace("|", r"\|") if text else ""
