"""From an address on the hub to a file of this machine, its checksum compared."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from fastfcn.errors import UserError
from fastfcn.hub.address import CONFIG_FILE, WEIGHTS_FILE, Address, is_address, parse
from fastfcn.hub.telling import quiet, told


def local_file(path: str | Path) -> Path:
    """The file that something stands for: itself, or what lies at an address of the hub, which is fetched.

    Fetched files stay in huggingface_hub's cache, from which they are taken where there is no network.

    Raises:
        UserError: Nothing can be had from the address, or not what was pushed there.
    """
    return pull(parse(path)) if is_address(path) else Path(path).expanduser()


def pull(address: Address) -> Path:
    """Fetch a model's weights.

    Raises:
        UserError: As `local_file`.
    """
    config_file = _fetch(address, CONFIG_FILE, revision=address.revision)
    # Both files of one commit, though somebody may push between the two: the cache's folder bears its name.
    commit = config_file.parent.name
    config = _config(address, config_file)
    weights = _fetch(address, WEIGHTS_FILE, revision=commit)
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != config["sha256"]:
        raise UserError(
            f"{address}: {WEIGHTS_FILE} is not the file that was pushed, its SHA-256 is {found[:12]}... and that in "
            f"{CONFIG_FILE} {config['sha256'][:12]}...: delete {weights.parents[2]} to fetch it again; where it "
            "stays so, do not use it."
        )
    return weights


def _config(address: Address, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{address}: its {CONFIG_FILE} is no JSON ({error}): it is damaged.") from error
    if not isinstance(config, dict) or not isinstance(config.get("sha256"), str):
        raise UserError(
            f"{address} is no model of this project: its {CONFIG_FILE} has no entry sha256; one is pushed by "
            "src/export.py to=hub."
        )
    return config


def _fetch(address: Address, name: str, *, revision: str | None) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise UserError(
            f"{address} needs the package huggingface_hub: pip install 'fastfcn-lightning[hub]'."
        ) from error
    quiet()
    try:
        return Path(
            hf_hub_download(address.repo, name, revision=revision, endpoint=os.environ.get("HF_ENDPOINT") or None)
        )
    except Exception as error:  # its exceptions have no common base: HTTP, validation, missing entries, full disks
        raise told(error, f"{address} cannot be read", missing=name) from error
