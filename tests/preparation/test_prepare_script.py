"""The whole of `src/prepare.py` as a process, fetching from a server, undisturbed and killed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from fastfcn.preparation import ade20k, fingerprint, pascal_context
from tests.preparation import trees
from tests.preparation.server import Server, serve
from tests.scripts import SRC, Done, call, environment, start

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COUNTS = {"ade20k": {"train": 40, "val": 20, "test": 20}, "pascal_context": {"train": 60, "val": 40}}
FILES = {
    "ade20k": {"images": "ADEChallengeData2016.zip", "test": "release_test.zip"},
    "pascal_context": {"images": "VOCtrainval_03-May-2010.tar", "json": "trainval_merged.json"},
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    trees.make_ade20k_archives(tmp_path / "served", counts=COUNTS["ade20k"])
    trees.make_pascal_archives(tmp_path / "served", counts=COUNTS["pascal_context"])
    with serve(tmp_path / "served") as running:
        yield running


def overrides(name: str, server: Server, data: Path) -> list[str]:
    """What a user types who takes the files from elsewhere."""
    shas: Mapping[str, str] = trees.sha1_of(server.folder, *FILES[name].values())
    given = [f"data={name}", f"paths.data_dir={data}", "prepare.retries=1", "prepare.workers=2"]
    given += [f"prepare.counts.{split}={count}" for split, count in COUNTS[name].items()]
    for key, file in FILES[name].items():
        given += [f"prepare.sources.{key}.url={server.url}/{file}", f"prepare.sources.{key}.sha1={shas[file]}"]
    return given


def undisturbed(name: str, server: Server, data: Path) -> fingerprint.Prepared:
    """The same preparation within this process, from the server's own folder."""
    prepare = {"ade20k": ade20k.prepare, "pascal_context": pascal_context.prepare}[name]
    sources = {key: {"file": file, "url": str(server.folder / file), "sha1": None} for key, file in FILES[name].items()}
    mat = {"mat": {"file": "trainval.tar.gz", "url": "-", "sha1": None}} if name == "pascal_context" else {}
    prepare(root=data / name, sources={**sources, **mat}, counts=COUNTS[name], downloads=data / "downloads")
    prepared = fingerprint.read(data / name)
    assert prepared is not None
    return prepared


def killed(arguments: list[str], when: Callable[[], bool]) -> bool:
    """Start the script and kill it at a moment; gives whether it came to it before its own end."""
    process = subprocess.Popen(
        [sys.executable, str(SRC / "prepare.py"), *arguments],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not when():
        time.sleep(0.002)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ade20k", "pascal_context"])
def test_killed_at_any_moment_it_goes_on_to_the_same_end(name: str, server: Server, tmp_path: Path) -> None:
    expected = undisturbed(name, server, tmp_path / "undisturbed")
    server.faults.piece, server.faults.pause = 4096, 0.01
    root, arguments = tmp_path / "data" / name, overrides(name, server, tmp_path / "data")
    whole = sum(path.stat().st_size for path in server.folder.iterdir() if path.name in FILES[name].values())

    def fetched(part: float) -> Callable[[], bool]:
        return lambda: sum(server.sent.values()) > part * whole

    moments = [fetched(0.1), fetched(0.7), lambda: any(root.glob(".*.partial/*")), lambda: any(root.glob("*/*"))]
    moments += [lambda: len(list(root.glob(".masks-*/*.png"))) > 20] if name == "pascal_context" else []
    assert [killed(arguments, moment) for moment in moments] == [True] * len(moments)
    assert not (root / "prepared.json").exists()
    done = start("prepare.py", *arguments).check()
    assert f"{name} is" in done.out
    assert fingerprint.read(root) == expected
    found, wanted = trees.files_under(root), trees.files_under(tmp_path / "undisturbed" / name)
    assert found == wanted
    sent = sum(server.sent.values())
    shutil.rmtree(server.folder)
    assert start("prepare.py", *arguments).check().out.endswith("nothing to do.\n")
    assert sum(server.sent.values()) == sent


def test_a_file_that_is_not_the_expected_one_is_told(server: Server, tmp_path: Path) -> None:
    arguments = overrides("ade20k", server, tmp_path / "data")
    server.faults.content = b"<html>The data have moved.</html>"
    sentence = call("prepare.py", *arguments).sentence()
    assert "ADEChallengeData2016.zip" in sentence
    assert "SHA-1" in sentence
    assert not (tmp_path / "data/ade20k/ADEChallengeData2016").exists()


def test_the_check(tmp_path: Path) -> None:
    """Of a prepared tree, and of the same with a truncated image: the exit code says whether training can start."""
    trees.make_pascal_tree(tmp_path / "pascal_context")

    def check() -> Done:
        place = (f"paths.data_dir={tmp_path}", f"prepare.out={tmp_path / 'check'}", "prepare.workers=0")
        return call("prepare.py", "data=pascal_context", "prepare.check=true", *place)

    check().check()
    assert list((tmp_path / "check").glob("*.png"))
    image = tmp_path / "pascal_context/VOCdevkit/VOC2010/JPEGImages/2008_000002.jpg"
    image.write_bytes(image.read_bytes()[:900])
    done = check()
    assert done.code == 1
    assert image.name in done.out
