"""``metrics.csv``: one file of rows for a run, however often it was broken off."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.utilities import rank_zero_only
from typing_extensions import override

from fastfcn.whole_files import replacing


class RunCSVLogger(CSVLogger):
    """Writes ``metrics.csv`` into a directory; a run that goes on there goes on with its rows.

    Lightning deletes the ``metrics.csv`` that it finds. Here it is moved to ``metrics.1.csv`` (``.2`` and so on).

    Args:
        save_dir: The directory.
    """

    def __init__(self, save_dir: str) -> None:
        self._before: Path | None = None
        # It warns of the deletion wherever the directory holds anything at all, which a run directory always does.
        warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
        super().__init__(save_dir, name="", version="")
        self._rows = 0

    @property
    @override
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Lightning's writer. The file of a run before is put aside here, and not by a run that is refused."""
        if self._experiment is None:
            self._before = _keep_old_metrics(Path(self.log_dir))
            self._experiment = _WholeWriter(log_dir=self.log_dir)
        return self._experiment

    @override
    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self._rows += 1
        super().log_metrics(metrics, step)

    def flushed(self) -> int:
        """Write what waits to the file; gives the rows that it has."""
        self.save()
        return self._rows

    @rank_zero_only
    def go_on(self, checkpoint: Path, *, rows: int, row: Mapping[str, float] | None) -> None:
        """Take over the rows that a run had logged in this directory when it wrote a checkpoint.

        Args:
            checkpoint: The checkpoint; nothing is taken over where it lies in another directory.
            rows: How many rows there were.
            row: One more, which was logged right after.
        """
        writer = self.experiment
        if self._before is None or not checkpoint.resolve().is_relative_to(Path(self.log_dir).resolve()):
            return
        with self._before.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            kept: list[Mapping[str, Any]] = [*islice(reader, rows), *([row] if row is not None else [])]
            names = sorted({*(reader.fieldnames or ()), *(row or ())})
        _write_rows(Path(writer.metrics_file_path), names, kept)
        writer.metrics_keys = names
        self._rows = len(kept)


class _WholeWriter(ExperimentWriter):
    """Lightning's, but that a kill at any moment leaves ``metrics.csv`` with all its rows."""

    @override
    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        _write_rows(path, fieldnames, rows)


def _write_rows(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the whole file or leave it as it is."""
    with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(rows)


def _keep_old_metrics(directory: Path) -> Path | None:
    """Give the ``metrics.csv`` of a run before another name.

    Returns:
        That file; where there is none, what a run that was killed before it took over its rows had moved.
    """
    current = directory / "metrics.csv"
    if getattr(rank_zero_only, "rank", 0) != 0:
        return None
    number = 1
    while (old := directory / f"metrics.{number}.csv").exists():
        number += 1
    if current.is_file():
        return current.rename(old)
    return directory / f"metrics.{number - 1}.csv" if number > 1 else None
