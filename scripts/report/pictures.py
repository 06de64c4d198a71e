"""Pictures of the results: figures that are drawn on demand and saved as small PNG files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image


class Picture(NamedTuple):
    """A figure that is drawn on demand, with its caption and file name."""

    name: str  # the name of the file, relative to results/
    caption: str
    figure: Callable[[], Figure]

    def draw(self, file: Path) -> None:
        """Writes a PNG file without metadata, so that equal pictures give equal files."""
        drawn = io.BytesIO()
        self.figure().savefig(drawn, dpi=100)
        with Image.open(drawn) as image:  # a palette keeps the file small
            image.convert("RGB").quantize(256).save(file, optimize=True)

    def markdown(self) -> str:
        """Returns the picture and its caption as Markdown."""
        return f"{self.image()}\n\n{self.caption}"

    def image(self) -> str:
        """Returns the picture as Markdown; the alternative text is the caption's first sentence."""
        return f"![{self.caption.partition('. ')[0]}]({self.name})"


def panels(number: int) -> tuple[Figure, list[Axes]]:
    """Returns a new figure and its `number` Axes.

    A row has at most two Axes or, if `number` is more than four, at most four.
    """
    columns = min(number, 2 if number <= 4 else 4)
    rows = -(-number // columns)
    figure = Figure(figsize=(5 * columns, 3.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[number:]:
        axis.remove()
    for axis in axes.flat[:number]:
        axis.grid(alpha=0.3)
    return figure, list(axes.flat[:number])
