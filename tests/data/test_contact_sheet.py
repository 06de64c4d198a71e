import numpy as np
import pytest
from PIL import Image

from lru.data.contact_sheet import write_contact_sheet
from lru.errors import UserError


def examples(side, channels, labels):
    for i, label in enumerate(labels):
        yield {"inputs": np.full((side**2, channels), 40 * i, np.uint8), "label": label}


@pytest.mark.parametrize(("side", "channels", "scale"), [(32, 1, 4), (32, 3, 4), (200, 1, 1)])
def test_rows_are_classes_and_columns_are_the_first_examples(tmp_path, side, channels, scale):
    path = tmp_path / "sheet.png"
    write_contact_sheet(path, examples(side, channels, [1, 0, 1, 1, 0]), ["no", "yes"], columns=2)
    sheet, step = np.asarray(Image.open(path)), side * scale + 6
    for row, column, shade in [(1, 0, 0), (0, 0, 40), (1, 1, 80), (0, 1, 160)]:
        y, x = 6 + row * step, sheet.shape[1] - (2 - column) * step
        assert (sheet[y : y + side * scale, x : x + side * scale] == shade).all()


def test_an_image_is_not_turned_or_mirrored(tmp_path):
    pixels = np.arange(4, dtype=np.uint8).reshape(2, 2) * 50
    example = {"inputs": pixels.reshape(4, 1), "label": 0}
    write_contact_sheet(tmp_path / "a.png", [example], ["0"], columns=1)
    sheet = np.asarray(Image.open(tmp_path / "a.png"))[6:134, -134:-6, 0]
    np.testing.assert_array_equal(sheet[::64, ::64], pixels)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((5, 1), np.uint8), "not square images"),
        (np.zeros(4, np.int32), "not square images"),
    ],
)
def test_inputs_that_are_not_images_raise(tmp_path, inputs, message):
    with pytest.raises(UserError, match=message):
        write_contact_sheet(tmp_path / "a.png", [{"inputs": inputs, "label": 0}], ["0"])


def test_an_unknown_format_raises(tmp_path):
    with pytest.raises(
        UserError,
        match=r"a\.what is not the name of an image file; expected a name such as sheet",
    ):
        write_contact_sheet(tmp_path / "a.what", examples(4, 1, [0]), ["0"])
