"""torch.export's .pt2, and the machine code that AOTInductor makes of it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from fastfcn import compiler
from fastfcn.errors import UserError
from fastfcn.exporting.description import KEY
from fastfcn.exporting.packages import quiet
from fastfcn.exporting.request import COMPILED_SUFFIX

#: The file of the archive that holds the description.
EXTRA = f"{KEY}.json"


def write(program: ExportedProgram, path: Path, *, text: str) -> None:
    """Write a program and its description."""
    with quiet():
        torch.export.save(program, path, extra_files={EXTRA: text})


def write_compiled(program: ExportedProgram, path: Path, *, text: str, fixed: bool) -> None:
    """Compile a program to machine code of this processor's kind; takes minutes.

    Args:
        program: The graph.
        path: The file.
        text: Its description.
        fixed: Whether the graph is of one size.

    Raises:
        UserError: There is no C++ compiler, or it fails.
    """
    need_compiler()
    # With frozen weights the compiler packs them for its kernels: a third less time on a CPU, a fifth more bytes. Where
    # sizes are free, torch 2.15 then compiles some models to something else without a word.
    options: dict[str, Any] = {"aot_inductor.metadata": {KEY: text}, "freezing": fixed}
    try:
        with quiet(), torch.no_grad():
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    except Exception as error:
        # torch wraps it, and tells in the first line what it was.
        if "CppCompileError" not in f"{type(error).__name__}: {error}".splitlines()[0]:
            raise
        raise UserError(
            "the C++ compiler could not build what AOTInductor wrote: choose export.aot_inductor=false, or install g++ "
            "and Python's headers; HYDRA_FULL_ERROR=1 shows what it says."
        ) from error


def need_compiler() -> None:
    """UserError where there is no C++ compiler."""
    compiler.need("to=torch_export is compiled by AOTInductor too, which", otherwise="export.aot_inductor=false")


def description_of(path: Path) -> str | None:
    """What a file says of itself; nothing in it is run.

    Raises:
        UserError: It is no .pt2.
    """
    try:
        if path.name.endswith(COMPILED_SUFFIX):
            metadata = torch._C._aoti.AOTIModelPackageLoader.load_metadata_from_package(str(path), "model")  # type: ignore[attr-defined]
            return str(metadata[KEY]) if KEY in metadata else None
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/{EXTRA}")]
            return archive.read(names[0]).decode() if names else None
    except (OSError, RuntimeError, zipfile.BadZipFile, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path} is no .pt2 of torch.export, or damaged: export it again.") from error


def runner(path: Path) -> Callable[[Tensor], Tensor]:
    """Open a file, which may run code: the input's tensor -> the output's."""
    call: Callable[[Tensor], Any]
    with quiet():
        try:
            if path.name.endswith(COMPILED_SUFFIX):
                call = torch._inductor.aoti_load_package(str(path))
            else:
                call = torch.export.load(path).module()
        except Exception as error:  # of a damaged file whatever its bytes run into
            raise UserError(f"{path} cannot be opened ({type(error).__name__}): export it again, here.") from error

    def run(image: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = call(image.contiguous())
            return found

    return run
