"""A folder that the hub shows as a model, and its way there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from fastfcn import weights_file
from fastfcn.checkpoint import Checkpoint
from fastfcn.errors import UserError
from fastfcn.hub import card
from fastfcn.hub.address import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, Address, is_address
from fastfcn.hub.gathering import Source, gather
from fastfcn.hub.telling import SIGN_IN, quiet, told
from fastfcn.hub.wanted import Wanted
from fastfcn.own_entry import CHECKPOINT_KEY, own_entry
from fastfcn.provenance import version_of
from fastfcn.whole_files import PARTIAL, check_folder

#: How the folder's name ends where none is given.
SUFFIX = ".hub"


def share(*, ckpt_path: str | None, official: str | None, out: str | None, wanted: Wanted) -> Path:
    """Write weights, facts and model card to a folder, and push it if asked to.

    A folder that is there already is pushed as it is, so that a card may be read and corrected before it is public.

    Args:
        ckpt_path: A checkpoint of this project.
        official: Or of the original code, or of mmsegmentation.
        out: The folder; None: beside the checkpoint.
        wanted: The options.

    Returns:
        The folder.

    Raises:
        UserError: What is asked for makes no sense, a file cannot be used or written, or the hub refuses.
    """
    repo = wanted.named()
    if wanted.push:
        _check_sign_in()
    source = gather(ckpt_path=ckpt_path, official=official, evaluation=wanted.evaluation)
    folder = Path(out).expanduser() if out else _beside(source.given)
    about = public_about(source.checkpoint)
    if folder.exists():
        _check_same(folder, about, source.checkpoint, push=wanted.push)
        print(f"taken as it is:  {folder}")
    else:
        check_folder(folder.parent, key="out")
        allowed = card.licences(source, weights=wanted.license, data=wanted.data_license)
        _write(folder, source, about, repo=repo, allowed=allowed)
        print(f"written:         {folder}")
        if not source.evaluation:
            print("the card has no intervals: hub.evaluation=FOLDER gives it an evaluation by src/eval.py")
    if wanted.push:
        _push(folder, repo, private=wanted.private, endpoint=wanted.endpoint)
    return folder


def public_about(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is said of the weights, in plain types, without the folders of the machine that they come from."""
    configs = {"model": _without_places(checkpoint.model_config), "data": _without_places(checkpoint.data_config)}
    return {**own_entry(configs, checkpoint.facts), "epoch": checkpoint.epoch, "score": checkpoint.score}


def _without_places(value: Any) -> Any:
    """Plain types with every absolute path made one below ``data``, where data lie by default."""
    if isinstance(value, Mapping):
        return {key: _without_places(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_places(inner) for inner in value]
    if isinstance(value, str) and (value.startswith(("~", "file:")) or Path(value).is_absolute()):
        return f"data/{Path(value).name}"
    return value


def _beside(given: str) -> Path:
    """Where the folder goes if nobody says."""
    if is_address(given):
        raise UserError(f"{given} has no folder of yours: say where to write by out=FOLDER.")
    path = Path(given).expanduser()
    name = path.name
    for suffix in (".tar", ".pth", ".ckpt", weights_file.SUFFIX):
        name = name.removesuffix(suffix)
    return path.with_name(name + SUFFIX)


def _write(folder: Path, source: Source, about: dict[str, Any], *, repo: str, allowed: card.Licences) -> None:
    """Write the folder, whole or not at all."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}{PARTIAL}")
    try:
        partial.mkdir(parents=True)
        weights_file.write(partial / WEIGHTS_FILE, source.checkpoint.weights, about)
        sha256 = _digest(partial / WEIGHTS_FILE)
        config = {
            "library_name": "fastfcn-lightning",
            "library_version": version_of("fastfcn-lightning"),
            "weights": WEIGHTS_FILE,
            "sha256": sha256,
            CHECKPOINT_KEY: about,
        }
        (partial / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        text = card.write(source, repo=repo, sha256=sha256, weights_file=WEIGHTS_FILE, allowed=allowed)
        (partial / CARD_FILE).write_text(text, encoding="utf-8")
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder} could not be written ({error}): see that there is room for it.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_same(folder: Path, about: dict[str, Any], checkpoint: Checkpoint, *, push: bool) -> None:
    """Refuse to push a folder of other weights, or to write over one."""
    if not push:
        raise UserError(f"{folder} is there already: push it by hub.push=true, delete it, or choose another by out=...")
    missing = next((name for name in (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE) if not (folder / name).is_file()), None)
    if missing is not None:
        raise UserError(f"{folder} is there already and has no {missing}: delete it, or choose another by out=...")
    weights, said = weights_file.read(folder / WEIGHTS_FILE)
    same = said == json.loads(json.dumps(about)) and weights.keys() == checkpoint.weights.keys()
    if not same or not all(value.equal(checkpoint.weights[name]) for name, value in weights.items()):
        raise UserError(
            f"{folder} is there already, of other weights than the checkpoint's: delete it, or give another by out=..."
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_sign_in() -> None:
    """See that a push may succeed, before anything is written."""
    try:
        from huggingface_hub import constants, get_token
    except ImportError as error:
        raise UserError("to=hub needs the package huggingface_hub: pip install 'fastfcn-lightning[hub]'.") from error
    if constants.HF_HUB_OFFLINE:
        raise UserError("hub.push=true: HF_HUB_OFFLINE is set, so nothing can be pushed: unset it.")
    if get_token() is None:
        raise UserError(f"hub.push=true needs a token with write access: {SIGN_IN}.")


def _push(folder: Path, repo: str, *, private: bool, endpoint: str | None) -> None:
    """Make the repository if there is none, and commit the three files together."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    quiet()
    api = HfApi(endpoint=endpoint or os.environ.get("HF_ENDPOINT") or None, library_name="fastfcn-lightning")
    try:
        api.whoami()
        try:
            is_public = not api.repo_info(repo).private
        except RepositoryNotFoundError:
            is_public = False
        if is_public and private:
            raise UserError(f"{repo} is there already and public: push to it by hub.private=false, or to another.")
        api.create_repo(repo, private=private, exist_ok=True)
        files = [CommitOperationAdd(name, folder / name) for name in (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE)]
        done = api.create_commit(repo, files, commit_message="Weights, facts and model card")
    except UserError:
        raise
    except Exception as error:  # its exceptions have no common base
        raise told(error, f"{folder} could not be pushed to {repo}") from error
    print(f"pushed:          {Address(repo, done.oid)}")
