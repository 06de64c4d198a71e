"""Variants of released files are read if unambiguous, or raise with the remedy."""

import bz2
import gzip
import io
import lzma
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lru.data import text
from lru.data.cifar10 import CIFAR10
from lru.data.enwik8 import Enwik8
from lru.data.listops import ListOps
from lru.data.pathfinder import Pathfinder
from lru.data.retrieval import Retrieval
from lru.data.text import Text
from lru.errors import UserError

WIKI = b"<page>some text, some more</page>\n" * 40
TINY = {"max_depth": 4, "min_length": 3, "max_length": 30, "pad_to": 32}
SIZES = {"num_train": 20, "num_validation": 4, "num_test": 3}


def put(file, content=WIKI):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def tarred(folder, file, mode):
    """Packs a folder into an archive and removes it."""
    with tarfile.open(file, mode) as archive:
        archive.add(folder, folder.name)
    shutil.rmtree(folder)


def read_enwik8(tmp_path, manual):
    dataset = Enwik8.create(tmp_path / "data", manual)
    tokens = np.concatenate([dataset.tokens(split) for split in ("train", "validation", "test")])
    return "".join(dataset.as_text(tokens)).encode()


def enwik8_error(tmp_path, manual):
    with pytest.raises(UserError) as error:
        Enwik8.create(tmp_path / "data", manual)
    return str(error.value)


NAMES = ["enwik8", "enwik8/enwik8", "ENWIK8", "enwik8 (1)", "enwik8/enwik8/enwik8"]
PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("name", NAMES)
def test_a_text_is_read_under_variants_of_its_name(tmp_path, name):
    put(tmp_path / "manual" / name)
    put(tmp_path / "manual" / "._enwik8", b"junk")
    assert read_enwik8(tmp_path, tmp_path / "manual") == WIKI


@pytest.mark.parametrize("at", ["directory", "file"])
@pytest.mark.parametrize("ending", PACKED)
def test_a_compressed_text_is_read(tmp_path, ending, at):
    file = tmp_path / "manual" / f"enwik8{ending}"
    put(file, PACKED[ending](WIKI))
    assert read_enwik8(tmp_path, file if at == "file" else file.parent) == WIKI


@pytest.mark.parametrize("name", ["enwik8.tar.gz", "Enwik8.tgz", "enwik8 (2).tar.gz"])
def test_a_text_in_an_archive_of_another_format_is_read(tmp_path, name):
    put(tmp_path / "enwik8" / "enwik8")
    (tmp_path / "manual").mkdir()
    tarred(tmp_path / "enwik8", tmp_path / "manual" / name, "w:gz")
    assert read_enwik8(tmp_path, tmp_path / "manual") == WIKI


def test_a_manual_dir_may_be_the_file_or_relative_or_in_home(tmp_path, monkeypatch):
    put(tmp_path / "manual" / "enwik8")
    put(tmp_path / "manual" / "enwik8 (1)", WIKI[::-1])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for i, manual in enumerate(["manual/enwik8", "~/manual", "manual"]):
        assert read_enwik8(tmp_path / str(i), manual) == WIKI
    assert read_enwik8(tmp_path / "4", tmp_path / "manual" / "enwik8 (1)") == WIKI[::-1]


@pytest.mark.parametrize("ending", ["", ".raw"])
@pytest.mark.parametrize("at", ["directory", "file"])
def test_the_three_common_files_of_a_text_are_the_text(tmp_path, monkeypatch, ending, at):
    monkeypatch.setattr(Enwik8, "size", len(WIKI))
    monkeypatch.setattr(Enwik8, "md5", "")
    folder, end = tmp_path / "manual" / "enwik8", len(WIKI) - 68
    for name, part in (("train", WIKI[:end]), ("valid", WIKI[end:-34]), ("test", WIKI[-34:])):
        put(folder / f"{name}.txt{ending}", part)
        if ending:
            put(folder / f"{name}.txt", " ".join(map(str, part)).encode())
    manual = folder / f"valid.txt{ending}" if at == "file" else folder.parent
    assert read_enwik8(tmp_path, manual) == WIKI


def test_files_that_are_not_the_whole_text_raise(tmp_path):
    for name in ("train", "valid", "test"):
        put(tmp_path / "manual" / "enwik8" / f"{name}.txt", b"60 112 97")
    message = enwik8_error(tmp_path, tmp_path / "manual")
    assert (
        "together have 27 bytes; expected 100,000,000 (files that list bytes as numbers" in message
    )
    assert message.endswith("download http://mattmahoney.net/dc/enwik8.zip again")


def test_a_whole_text_with_other_bytes_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(Enwik8, "size", len(WIKI))
    put(tmp_path / "manual" / "enwik8")
    message = enwik8_error(tmp_path, tmp_path / "manual")
    assert "not the released text: md5 " in message and Enwik8.md5 in message


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"enwik8": b""}, "enwik8 is empty: download http"),
        (
            {"enwik8": bytes(5000)},
            "enwik8 is damaged: it has 512 or more zero bytes in a row",
        ),
        ({"enwik8": WIKI + bytes(600) + WIKI}, "zero bytes in a row from byte 1,360; replace"),
        ({"enwik8.gz": gzip.compress(WIKI)[:-3]}, "enwik8.gz is damaged (Compressed file ended"),
        ({"enwik8 (1)": WIKI, "enwik8 (2)": WIKI}, "may both be enwik8: keep one"),
        ({"enwik8.zip.crdownload": b"x"}, "is an unfinished download: finish it, or delete it"),
        ({"enwik8.7z": b"7z"}, "enwik8.7z has an unsupported format: unpack it in "),
        ({"enwik8/train.txt": WIKI}, "enwik8 not found: looked in"),
        ({"enwik8/other/x": WIKI}, "enwik8 not found: looked in"),
    ],
)
def test_files_without_the_text_raise_with_the_remedy(tmp_path, files, message):
    for name, content in files.items():
        put(tmp_path / "manual" / name, content)
    error = enwik8_error(tmp_path, tmp_path / "manual")
    assert message in error and len(error.splitlines()) <= 2


def test_a_manual_dir_that_is_another_file_or_missing_raises(tmp_path):
    put(tmp_path / "some.txt")
    error = enwik8_error(tmp_path, tmp_path / "some.txt")
    assert error.endswith(
        "some.txt is not one of enwik8.zip, enwik8: give one of them, or the directory that "
        "contains it"
    )
    assert "nowhere, which does not exist" in enwik8_error(tmp_path, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("cifar-10-python.tar.gz", "the Python version, whose pickle files are never read"),
        (
            "cifar-10-batches-py/data_batch_1",
            "the Python version, whose pickle files are never read",
        ),
        ("cifar-10-matlab.tar.gz", "the MATLAB version, which is not supported"),
    ],
)
def test_other_versions_of_cifar_raise_with_the_needed_one(tmp_path, name, what):
    put(tmp_path / "manual" / name)
    for manual in (tmp_path / "manual", tmp_path / "manual" / Path(name).parts[0]):
        if manual.is_dir() and manual.name != "manual":
            continue
        with pytest.raises(UserError, match=f"is {what}: download https://.*binary.tar.gz instead"):
            CIFAR10.create(tmp_path, manual)


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    """`reviews(folder, ending)` makes IMDb's folders of three reviews per class, with junk."""
    monkeypatch.setattr(text, "_PER_CLASS", 3)

    def make(folder="aclImdb", ending=".txt"):
        for part in ("train/neg", "train/pos", "test/neg", "test/pos"):
            below = tmp_path / "manual" / folder / part
            for i in range(3):
                put(below / f"{i}_{i}{ending}", f"{part} {i}".encode())
                put(below / f"._{i}_{i}{ending}", b"\0\5\x16\7")
            for junk in (".DS_Store", "Thumbs.db", "notes.txt", "0_0 (1).txt"):
                put(below / junk, b"junk")
        return tmp_path / "manual"

    return make


def read_reviews(tmp_path, manual):
    dataset = Text.create(
        tmp_path, manual, pad_to=20, min_freq=1, num_validation=2, protocol="paper"
    )
    return [dataset.vocabulary.decode(example["inputs"]) for example in dataset.source("train")]


REVIEWS = [f"train/{kind} {i}" for kind in ("neg", "pos") for i in range(3)]


@pytest.mark.parametrize("folder", ["", "aclImdb", "aclimdb", "aclImdb/aclImdb", "x/aclImdb"])
def test_reviews_are_read_without_system_junk(reviews, tmp_path, folder):
    assert read_reviews(tmp_path, reviews(folder)) == REVIEWS


def test_reviews_with_upper_case_endings_are_read(reviews, tmp_path):
    assert read_reviews(tmp_path, reviews(ending=".TXT")) == REVIEWS


@pytest.mark.parametrize("name", ["aclImdb.zip", "aclImdb_v1.tar", "aclimdb.tar.xz"])
def test_reviews_are_read_from_repacked_archives(reviews, tmp_path, name):
    manual = reviews()
    if name.endswith(".zip"):
        with zipfile.ZipFile(manual / name, "w") as archive:
            for path in sorted(path for path in manual.rglob("*_*.txt") if path.is_file()):
                archive.write(path, path.relative_to(manual))
                archive.writestr(f"__MACOSX/{path.relative_to(manual)}", b"junk")
        shutil.rmtree(manual / "aclImdb")
    else:
        tarred(manual / "aclImdb", manual / name, "w:xz" if name.endswith("xz") else "w")
    assert read_reviews(tmp_path, manual) == REVIEWS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: download"),
        (bytes(30), "has zero bytes: download"),
        (b"caf\xe9", "is not UTF-8"),
    ],
)
def test_a_damaged_review_raises(reviews, tmp_path, content, message):
    put(reviews() / "aclImdb" / "test" / "pos" / "1_1.txt", content)
    with pytest.raises(UserError, match=rf"test/pos/1_1\.txt {message}"):
        read_reviews(tmp_path, tmp_path / "manual")


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    directory = tmp_path_factory.mktemp("listops")
    ListOps.create(directory, **TINY, **SIZES).write_tsv(directory / "tsv")
    return {path.name: path.read_bytes() for path in (directory / "tsv").iterdir()}


def read_listops(tmp_path, manual):
    return ListOps.create(tmp_path, manual, source="released", pad_to=32, **SIZES)


BOM = b"\xef\xbb\xbf"
CHANGES = {
    "a byte order mark": lambda content: BOM + content,
    "newlines of Unix": lambda content: content.replace(b"\r\n", b"\n"),
    "no header": lambda content: content.partition(b"\n")[2],
    "no header but a mark": lambda content: BOM + content.partition(b"\n")[2],
    "no last newline": lambda content: content.rstrip(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_expressions_are_read_from_edited_files(generated, tmp_path, change):
    for name, content in generated.items():
        put(tmp_path / "plain" / name, content)
        put(tmp_path / "manual" / name, CHANGES[change](content))
    dataset = read_listops(tmp_path / "data", tmp_path / "manual")
    assert dataset.digests == read_listops(tmp_path / "other", tmp_path / "plain").digests


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Source\tTarget\n".encode("utf-16"), "line 1: the file is UTF-16; expected UTF-8: save"),
        (b"Source\tTarget\n[MIN 1 2 ]\xe9\t1\n", "line 2: not UTF-8 .*: save the file as UTF-8"),
        (
            b"Source\tTarget\n[MIN 1 2 ]\t\0\n",
            "line 2: the line has a zero byte, so the file is da",
        ),
        (b"Source,Target\n", "line 1: the header is 'Source,Target'; expected "),
    ],
)
def test_expressions_of_another_encoding_or_form_raise(generated, tmp_path, content, message):
    for name in generated:
        put(tmp_path / "manual" / name, content)
    with pytest.raises(UserError, match=rf"basic_val\.tsv, {message}"):
        read_listops(tmp_path, tmp_path / "manual")


INNER, OUTER = "lra_release/lra_release/listops-1000", "lra_release/listops-1000"


@pytest.mark.parametrize("folder", ["listops", "LISTOPS-1000", f"x/{INNER}", INNER, OUTER])
def test_folders_of_public_pipelines_are_found_and_noted(generated, tmp_path, folder, caplog):
    for name, content in generated.items():
        put(tmp_path / "manual" / folder / name, content)
    with caplog.at_level("INFO", logger="lru.data.builder"):
        dataset = read_listops(tmp_path, tmp_path / "manual")
    assert dataset.note == f"read from {folder}"
    assert caplog.messages[1].endswith(f", folder {folder}")


@pytest.mark.parametrize("packed", [True, False])
def test_the_inner_of_two_copies_is_read_and_noted(generated, tmp_path, packed):
    for name, content in generated.items():
        put(tmp_path / "manual" / OUTER / name, b"another")
        put(tmp_path / "manual" / INNER / name, content)
    if packed:
        tarred(tmp_path / "manual" / "lra_release", tmp_path / "manual" / "lra_release.gz", "w:gz")
    for _ in range(2):  # prepared, then read again
        dataset = read_listops(tmp_path, tmp_path / "manual")
        assert (dataset.note, len(dataset.source("train"))) == (f"read from {INNER}", 20)


def test_the_outer_copy_is_read_if_the_inner_one_lacks_files(generated, tmp_path):
    for name, content in generated.items():
        put(tmp_path / "manual" / OUTER / name, content)
    put(tmp_path / "manual" / INNER / "basic_val.tsv", b"another")
    assert read_listops(tmp_path, tmp_path / "manual").note == f"read from {OUTER}"


def test_an_archive_that_gunzip_unpacked_is_read(generated, tmp_path):
    for name, content in generated.items():
        put(tmp_path / "listops-1000" / name, content)
    (tmp_path / "manual").mkdir()
    tarred(tmp_path / "listops-1000", tmp_path / "manual" / "lra_release", "w")
    assert len(read_listops(tmp_path, tmp_path / "manual").source("test")) == 3


@pytest.mark.parametrize(
    ("create", "hint"),
    [
        (lambda d: ListOps.create(d, source="released"), "source=generated generates data by the"),
        (lambda d: Pathfinder.create(d, source="released"), "source=generated generates data by"),
        (lambda d: Retrieval.create(d), "https://huggingface.co/datasets/OpenNLPLab/lra has files"),
    ],
)
def test_without_lras_archive_it_raises_with_an_alternative(tmp_path, create, hint):
    with pytest.raises(UserError, match=f"lra_release.gz is reported to answer 403: {hint}"):
        create(tmp_path)


ROWS = "1.0\tA\tB\tb'one'\tb'two'\n0.0\tA\tC\tb'one'\tb'x'\n"
HEADER = "label\tid1\tid2\ttext1\ttext2\n"


def read_pairs(tmp_path, folder, content):
    for part in ("train", "eval", "test"):
        put(tmp_path / "manual" / folder / f"new_aan_pairs.{part}.tsv", content)
    options = {"release": "stand_in", "pad_to": 20}
    return Retrieval.create(tmp_path / "data", tmp_path / "manual", **options)


@pytest.mark.parametrize("folder", ["", "aan", "data/aan"])
@pytest.mark.parametrize(
    "content", [ROWS.encode(), BOM + ROWS.encode(), (HEADER + ROWS).replace("\n", "\r\n").encode()]
)
def test_pairs_are_read_from_edited_files(tmp_path, folder, content):
    source = read_pairs(tmp_path, folder, content).source("train")
    assert [int(example["label"]) for example in source] == [1, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ROWS.encode("utf-16"), "line 1: the file is UTF-16"),
        (ROWS.replace("x", "\xe9").encode("latin-1"), "line 2: not UTF-8"),
        (ROWS.replace("x", "\0").encode(), "line 2: the line has a zero byte"),
    ],
)
def test_pairs_of_another_encoding_raise(tmp_path, content, message):
    with pytest.raises(UserError, match=rf"new_aan_pairs\..*\.tsv, {message}"):
        read_pairs(tmp_path, "aan", content)


def images(folder, level, empty=None, size=32):
    """Writes 20 images in LRA's format, `sample_170.png` to `179`, with junk of macOS."""
    for k in range(2):
        lines = []
        for i in range(170, 180):
            file = folder / level / "imgs" / str(k) / f"sample_{i}.png"
            buffer = io.BytesIO()
            Image.fromarray(np.full((size, size), 10 * k + i, np.uint8)).save(buffer, "png")
            put(file, b"" if (k, i) == empty else buffer.getvalue())
            put(file.with_name(f"._{file.name}"), b"\0\5")
            lines.append(f"imgs/{k} {file.name} {i} {i % 2} 1.0\n")
        put(folder / level / "metadata" / f"{k}.npy", "".join(lines).encode())
        put(folder / level / "metadata" / f"._{k}.npy", b"\0\5")


def read_images(tmp_path, **options):
    options = {"source": "released", "num_images": 20} | options
    return Pathfinder.create(tmp_path / "data", tmp_path / "manual", **options)


HARD, EASY = "curv_contour_length_14", "curv_baseline"


def test_images_are_read_from_s4s_folders_among_macos_junk(tmp_path):
    images(tmp_path / "manual" / "pathfinder" / "pathfinder64", HARD, size=64)
    images(tmp_path / "manual" / "pathfinder" / "pathfinder32", HARD)
    dataset = read_images(tmp_path)
    assert dataset.note == "read from pathfinder/pathfinder32"
    assert [len(dataset.source(split)) for split in ("train", "validation", "test")] == [16, 2, 2]


def test_the_empty_image_of_the_release_is_left_out_and_noted(tmp_path):
    images(tmp_path / "manual" / "pathfinder32", EASY, empty=(0, 172))
    dataset = read_images(tmp_path, difficulty="easy")
    assert sum(len(dataset.source(split)) for split in ("train", "validation", "test")) == 19
    assert dataset.note == (
        "read from pathfinder32; imgs/0/sample_172.png, an empty file in the release, is left out"
    )


@pytest.mark.parametrize(("level", "empty"), [(EASY, (1, 172)), (HARD, (0, 172))])
def test_another_empty_image_raises(tmp_path, level, empty):
    images(tmp_path / "manual" / "pathfinder32", level, empty=empty)
    with pytest.raises(UserError, match=r"sample_172\.png cannot be read as an image"):
        read_images(tmp_path, difficulty="easy" if level == EASY else "hard")
