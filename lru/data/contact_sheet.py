"""Draws a sheet with some images of each class of a data set."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lru.errors import UserError

_LEAST = 128  # minimum side of an image on the sheet, in pixels; smaller images are enlarged
_GAP = 6
_GREY = 96


def write_contact_sheet(
    path: str | os.PathLike[str],
    examples: Iterable[Mapping[str, Any]],
    names: Sequence[str],
    columns: int = 6,
) -> None:
    """Writes an image that shows the first examples of each class, one class per row.

    Args:
      path: the image file to write; its ending, such as .png, sets the format.
      examples: examples of square images, with inputs (T, 1) or (T, 3) uint8, and a label.
      names: the names of the classes, in the order of the labels.
      columns: the maximum number of examples of each class.

    Raises:
      UserError: if inputs are not square images of bytes, or the format is unknown.
    """
    rows: list[list[np.ndarray]] = [[] for _ in names]
    for example in examples:
        image = _square(example["inputs"])
        row = rows[int(example["label"])]
        if len(row) < columns:
            row.append(image)
        if all(len(row) == columns for row in rows):
            break
    shapes = {image.shape for row in rows for image in row}
    step = max((shape[0] for shape in shapes), default=0) + _GAP
    font = ImageFont.load_default()
    margin = 2 * _GAP + max(math.ceil(font.getlength(name)) for name in names)
    sheet = Image.new("RGB", (margin + columns * step, _GAP + len(names) * step), 3 * (_GREY,))
    for label, (name, row) in enumerate(zip(names, rows)):
        ImageDraw.Draw(sheet).text((_GAP, _GAP + label * step), name, font=font)
        for column, image in enumerate(row):
            sheet.paste(Image.fromarray(image), (margin + column * step, _GAP + label * step))
    try:
        sheet.save(path)
    except ValueError as error:
        raise UserError(
            f"{os.fspath(path)} is not the name of an image file; expected a name such as sheet.png"
        ) from error


def _square(inputs: np.ndarray) -> np.ndarray:
    """Returns pixels (T, 1) or (T, 3) as a square image with three channels, enlarged if small."""
    side = round(len(inputs) ** 0.5)
    if inputs.dtype != np.uint8 or inputs.ndim != 2 or side**2 != len(inputs):
        raise UserError(f"inputs {inputs.shape} of {inputs.dtype} are not square images of bytes")
    image = np.broadcast_to(inputs.reshape(side, side, -1), (side, side, 3))
    scale = -(-_LEAST // side)
    return np.kron(image, np.ones((scale, scale, 1), np.uint8))
