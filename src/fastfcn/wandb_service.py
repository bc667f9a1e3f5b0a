"""What is done with W&B itself: its settings, its service process, artifacts."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fastfcn
from fastfcn.errors import UserError


def prepare() -> None:
    """Load W&B's settings, and have it say nothing by itself.

    Raises:
        UserError: A setting is of a value that W&B refuses.
    """
    # Its reports on its own faults wait 20 s at the end of a process for a server that accepts and never answers.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    try:
        wandb.setup(settings=wandb.Settings(silent=True))
    except ValueError as error:  # of pydantic: a line that counts, the setting, what it should be
        raise UserError(
            f"W&B refuses its settings ({' '.join(str(error).splitlines()[1:3])}): correct the variables WANDB_... of "
            "the environment, or W&B's settings file."
        ) from error


def configured_mode() -> str | None:
    """The mode that the user's settings of W&B ask for, as by ``wandb offline``; None where they do not."""
    import wandb

    mode = str(wandb.setup().settings.mode)
    return None if mode == "online" else mode  # which is W&B's default


def has_credentials() -> bool:
    """Whether W&B finds credentials in the environment, its settings or a netrc file; asks no server and no user."""
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except wandb.errors.AuthenticationError as error:
        raise UserError(
            f"The API key of W&B is malformed ({error}): run `wandb login`, or set logger.wandb.mode=offline."
        ) from error


def disabled_run() -> Any:
    """A run that takes every call and does nothing."""
    import wandb

    return wandb.init(mode="disabled", reinit="create_new")


def forget_run() -> None:
    """Have W&B's library forget the run of this process, which it does by itself only where a run ends in order."""
    library: Any = importlib.import_module("wandb.sdk.lib.module")
    library.unset_globals()


def stop(*, timeout: float = 5.0) -> None:
    """End W&B's service process at once, whatever state it is in; what it has written stays.

    A call that waits for the service ends by an error then, and a next run starts a service of its own.

    Args:
        timeout: Seconds that the library may take to part with it.
    """
    import wandb

    connection = getattr(wandb.setup(), "_connection", None)
    service = getattr(connection, "_proc", None)
    process = getattr(service, "_process", None)  # None where the service belongs to another process
    if process is not None:
        process.kill()
        process.wait()

    def part() -> None:
        # It finds the service gone, and says so by errors of several kinds.
        with contextlib.suppress(Exception, SystemExit):
            wandb.teardown()

    parting = threading.Thread(target=part, name="wandb-teardown", daemon=True)
    parting.start()
    parting.join(timeout)


def keep_checkpoint(run: Any, path: Path, metadata: Mapping[str, Any]) -> None:
    """Log a checkpoint as an artifact of the run, with the digest of its file."""
    import wandb

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata={**metadata, "sha256": digest})
    artifact.add_file(str(path), name=path.name)
    run.log_artifact(artifact, aliases=["best"])


def keep_code(run: Any) -> None:
    """Log the sources and the configuration as an artifact of the run."""
    package = Path(fastfcn.__file__).resolve().parent
    checkout = package.parents[1]
    if (checkout / "pyproject.toml").is_file():
        folders, root = [checkout / "src", checkout / "conf"], checkout
    else:
        folders, root = [package], package

    def wanted(path: str) -> bool:
        file = Path(path)
        return file.suffix in (".py", ".yaml") and any(file.is_relative_to(folder) for folder in folders)

    run.log_code(str(root), include_fn=wanted)


def confusion_chart(cells: Sequence[tuple[str, str, int]]) -> Any:
    """W&B's own chart of a confusion matrix, of (label, prediction, count)."""
    import wandb

    columns: list[str | int] = ["Actual", "Predicted", "nPredictions"]  # as the chart's template has them
    return wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=columns, data=[list(cell) for cell in cells]),
        {str(column): str(column) for column in columns},
        {"title": "pixels by label and prediction"},
    )
