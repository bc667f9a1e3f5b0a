"""What becomes of a run directory when its run is refused before it begins."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from fastfcn.status import LOCK_FILE, STATUS_FILE
from fastfcn.sweeps.process import PARENT

#: What Hydra and the status write into a run directory before anything else does.
HYDRA_DIR = ".hydra"

#: Set for each of several processes that share a run directory, whose end the others do not know of.
_SHARED = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def clear_away(run_dir: Path, *, with_status: bool = True) -> None:
    """Remove the directory of a run that has not begun, so that nothing lies there that looks like a run.

    It stays where anything but Hydra's record, its log and the status lies in it; in a sweep, whose summary reads the
    status; and where several processes share it.

    Args:
        run_dir: the directory.
        with_status: also where a status tells of the refusal.
    """
    if PARENT in os.environ or any(name in os.environ for name in _SHARED) or not (run_dir / HYDRA_DIR).is_dir():
        return
    own = {HYDRA_DIR, LOCK_FILE, STATUS_FILE} if with_status else {HYDRA_DIR}
    found = list(run_dir.iterdir())
    if any(path.name not in own and path.suffix != ".log" for path in found):
        return
    shutil.rmtree(run_dir / HYDRA_DIR, ignore_errors=True)
    for path in found:
        if path.is_file():
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something has come in meanwhile, or it is the folder that one stands in
        run_dir.rmdir()
