"""Build the documentation: ``make docs``, or ``python -m fastfcn.documentation [out=outputs/docs]``."""

from __future__ import annotations

import sys
from pathlib import Path

from fastfcn.documentation.building import build
from fastfcn.errors import UserError


def main(words: list[str]) -> int:
    """Build, print where it begins, and give the exit code."""
    out = Path("outputs/docs")
    try:
        for word in words:
            if not word.startswith("out=") or word == "out=":
                raise UserError(f"{word}: give out=<folder> or nothing.")
            out = Path(word.removeprefix("out="))
        print(f"documentation: {build(Path.cwd(), out)}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
