"""Memory that was freed stays with a process, or goes back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastfcn import heap
from tests.scripts import call

#: Frees and takes blocks of 48 MiB, larger than glibc ever keeps by itself, and counts the pages that come anew.
PAGES = """
import resource, torch
from fastfcn import heap

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        torch.empty(12 << 20).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

torch.empty(12 << 20).fill_(1.0)
given = faults()
assert heap.keep()
for _ in range(3):
    faults()
kept, held = faults(), resident()
heap.give_back()
print(given, kept, faults(), held - resident())
"""


@pytest.fixture
def by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*heap._VARIABLES, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)


glibc = pytest.mark.skipif(not hasattr(heap._library(), "gnu_get_libc_version"), reason="another C library than glibc")


@glibc
@pytest.mark.usefixtures("by_default")
def test_kept_memory_is_taken_again_without_new_pages_until_it_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    given, kept, given_again, less_mib = map(int, done.stdout.split())
    assert kept < given / 20
    assert given_again > given / 2
    assert less_mib > 40


@pytest.mark.usefixtures("by_default")
@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "1000000"), ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")]
)
def test_what_the_user_set_for_malloc_stays(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert not heap.keep()


@pytest.mark.usefixtures("by_default")
@pytest.mark.parametrize("library", [object(), None])
def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch, library: object) -> None:
    monkeypatch.setattr(heap, "_library", lambda: library)
    assert not heap.keep()
    heap.trim()


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("train.py", ["data=folder", "data.dataset.root=/nowhere"]),
        ("eval.py", ["ckpt_path=/nowhere.ckpt"]),
        ("predict.py", ["ckpt_path=/nowhere.ckpt", "input=/nowhere.png"]),
    ],
)
def test_scripts_keep_memory_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, script: str, arguments: list[str], wanted: bool
) -> None:
    kept = []
    monkeypatch.setattr(heap, "keep", lambda: kept.append(True))
    done = call(script, *arguments, *([] if wanted else ["keep_heap=false"]))
    assert done.code == 2, done.err
    assert kept == [True] * wanted
