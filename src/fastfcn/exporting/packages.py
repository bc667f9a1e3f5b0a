"""Packages of the extra ``export``, imported when they are needed."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from fastfcn.errors import UserError


def need(name: str) -> Any:
    """Import a package.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{name.partition('.')[0]} is not installed: pip install -e .[export]") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep back what exporters tell of their own steps, which says nothing about the model."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
