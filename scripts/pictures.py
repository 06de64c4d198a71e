"""What pictures of the results share: figures that are drawn when asked for, as small PNGs."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image


class Picture(NamedTuple):
    """A picture that there are records for."""

    name: str  # of its file, from results/
    caption: str
    figure: Callable[[], Figure]

    def draw(self, file: Path) -> None:
        """Writes it as a PNG, with nothing in it of when and with what it was made."""
        drawn = io.BytesIO()
        self.figure().savefig(drawn, dpi=100)
        with Image.open(drawn) as image:  # a palette makes a small file
            image.convert("RGB").quantize(256).save(file, optimize=True)

    def shown(self) -> str:
        """It and its caption, as Markdown."""
        return f"{self.image()}\n\n{self.caption}"

    def image(self) -> str:
        """It alone, as Markdown, with the first sentence of its caption in place of the picture."""
        return f"![{self.caption.partition('. ')[0]}]({self.name})"


def panels(number: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, two or more to a row."""
    columns = min(number, 2 if number <= 4 else 4)
    rows = -(-number // columns)
    figure = Figure(figsize=(5 * columns, 3.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[number:]:
        axis.remove()
    for axis in axes.flat[:number]:
        axis.grid(alpha=0.3)
    return figure, list(axes.flat[:number])
