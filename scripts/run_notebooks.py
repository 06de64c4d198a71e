"""Runs the notebooks and writes their .ipynb files: `python scripts/run_notebooks.py [NAME ...]`.

Every `notebooks/NAME.py` is converted, and run in a new kernel. The .ipynb has its cells, their
outputs, and figures with a palette, so that it is small enough for git.
"""

from __future__ import annotations

import base64
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jupytext
from PIL import Image

from lru.command_line import Parser, run
from lru.errors import UserError

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
_COLORS = 128  # enough for lines, their anti-aliasing and a color map


def main(argv: Sequence[str]) -> None:
    """Runs the named notebooks, or all, and prints the seconds that each takes."""
    parser = Parser(prog="python scripts/run_notebooks.py", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a notebook, such as 02_look_at_a_run; default: all",
    )
    known = sorted(file.stem for file in FOLDER.glob("*.py"))
    names = parser.parse_args(argv).names or known
    if unknown := sorted(set(names) - set(known)):
        raise UserError(f"no notebook is named {', '.join(unknown)}; expected {', '.join(known)}")
    for name in names:
        begin = time.perf_counter()
        _write(name)
        print(f"{name}: {time.perf_counter() - begin:.0f} seconds")


def _write(name: str) -> None:
    from nbclient import NotebookClient  # not needed by `palette`, which is tested without it

    notebook = jupytext.read(FOLDER / f"{name}.py")
    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=600, record_timing=False, resources=resources).execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # random ids would differ between runs
        for output in cell.get("outputs", ()):
            _shrink(output.get("data", {}))
    jupytext.write(notebook, FOLDER / f"{name}.ipynb")


def _shrink(data: dict[str, Any]) -> None:
    """Stores a figure with 128 colors instead of 16 million."""
    if "image/png" in data:
        data["image/png"] = base64.b64encode(palette(base64.b64decode(data["image/png"]))).decode()


def palette(png: bytes) -> bytes:
    """Returns a PNG of the same size and resolution with at most 128 colors."""
    with Image.open(io.BytesIO(png)) as image:
        small = image.convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE)
        content = io.BytesIO()
        small.save(content, "PNG", optimize=True, dpi=image.info["dpi"])
    return content.getvalue()


if __name__ == "__main__":
    sys.exit(run(main))
