"""The C++ compiler that torch calls for what it compiles on a CPU."""

from __future__ import annotations

from fastfcn.errors import UserError


def need(what: str, *, otherwise: str) -> None:
    """Find the compiler.

    Args:
        what: That needs it, the beginning of a sentence.
        otherwise: The option by which nothing is compiled.

    Raises:
        UserError: There is none.
    """
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler as error:
        raise UserError(
            f"{what} needs a C++ compiler, and there is none: install g++ (or name one in the environment variable "
            f"CXX), or choose {otherwise}."
        ) from error
