"""Where a run may write: below its own directory, unless its configuration says that another place is meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastfcn.errors import UserError

#: Keys under which callbacks, loggers and the Trainer are told a folder to write to.
FOLDERS = ("dirpath", "directory", "save_dir", "log_dir", "default_root_dir")

#: And a file's name, within such a folder.
NAMES = ("filename", "name", "version")


def check(config: Mapping[str, Any], run_dir: Path) -> None:
    """See that callbacks, loggers and Trainer write below the run directory.

    Args:
        config: The resolved configuration; where its `paths.outside` is true, all places are right.
        run_dir: Of the run.

    Raises:
        UserError: One would write elsewhere; its key is named.
    """
    if config.get("paths", {}).get("outside"):
        return
    home = run_dir.resolve()
    for group in ("callbacks", "logger", "trainer"):
        for key, place in _places(config.get(group) or {}, group, home):
            if not place.is_relative_to(home):
                raise UserError(
                    f"{key} leads to {place}, outside of the run directory {home}: choose a place below "
                    "${paths.run_dir}, or say by paths.outside=true that this one is meant."
                )


def _places(config: object, prefix: str, home: Path) -> Iterator[tuple[str, Path]]:
    """Every place in a nested configuration, with its key."""
    if not isinstance(config, Mapping):
        return
    folder = next((Path(str(config[key])).expanduser() for key in FOLDERS if config.get(key) is not None), home)
    for key, value in config.items():
        if key in FOLDERS and value is not None:
            yield f"{prefix}.{key}={value}", Path(str(value)).expanduser().resolve()
        elif key in NAMES and isinstance(value, str):
            yield f"{prefix}.{key}={value}", (folder / value).resolve()
        yield from _places(value, f"{prefix}.{key}", home)


def for_reading(data_config: Mapping[str, Any]) -> dict[str, Any]:
    """The data configuration in a checkpoint, without the folder that it names to keep drawn scenes in.

    A file that comes from elsewhere decides of no place to write to. Where scenes are kept already, they are used.
    """
    dataset = data_config.get("dataset")
    if not isinstance(dataset, Mapping) or (kept := dataset.get("cache_dir")) is None:
        return dict(data_config)
    if any(Path(str(kept)).expanduser().glob("*px-seed*.npy")):
        return dict(data_config)
    return {**data_config, "dataset": {**dataset, "cache_dir": None}}
