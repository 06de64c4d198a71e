"""The page on character language models: our results beside those of Ahuja & Morency (2018)."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from paper.charlm import DATA, MAIN, NAMES, PERCENT, TALK

from lru.training.names import current_name
from report import rows
from report.format import (
    Record,
    coverage,
    differing,
    finished,
    join,
    mean,
    span,
    table,
    time_and_data,
)
from report.pictures import Picture


class Cell(NamedTuple):
    """The experiment of a run: text, model, size, depth, and the share of the text to train on."""

    data: str
    model: str
    size: str
    depth: int = 2
    percent: int = 0  # the percentage of the text to train on; 0: the config's


Cells = Mapping[Cell, Sequence[Record]]
Line = tuple[str, str, Cell]  # name, the paper's number, cell
_DEPTHS = {"quick": [2, 4, 6, 8], "converge": [2, 4], "10m": [2], "24m": [2], "talk": [2, 4, 6, 8]}
_COLUMNS = "paper | ours | epochs run / best | time | data"
_INTRODUCTION = """\
# Character language models

This page shows the test cross entropy, in nats per character, of the checkpoint with the best
validation loss. Epochs are counted from 1, and "stopped" marks unfinished runs. "Paper" gives
numbers read off the figures of Ahuja & Morency (2018); as far as is known, each is of one run. On
this page, "LRU" is the *Lattice* Recurrent Unit, and "linear LRU" is the unit of the
[Long Range Arena](lra.md). The [index](README.md) explains the terms for data."""
_QUICK = """\
The variants `:quick` of the configs have two layers with 0.3 million parameters in total. They
are trained on the first tenth of the text for at most three epochs. They show that all models
learn, and how the models compare at this size; they do not reproduce the paper's numbers."""
_CONVERGE = """\
The variants `:converge` have 0.3 million parameters. They are trained on a share of the text for
up to 60 epochs, until the authors' stopping rule ends the run: three epochs in a row that do not
lower the validation loss by 1e-4. The test text is the same for every share. "Best epoch" is the
epoch with the lowest validation loss, which is the paper's measure of convergence. The command
is `python scripts/reproduce.py --table=charlm --size=converge --data=ptb --model=all --depth=4
--percent=2,5,10,20,40 --seeds=3`."""
_TALK = """\
In the first author's talk of May 2017, the models have 0.90 million parameters per layer, and 2, 4,
6 or 8 layers. The talk's "LRU" is the paper's RG-LRU."""
_MAIN = """\
The number of parameters, including those of the embedding and the read-out, determines the
width. The paper does not give the number of layers; our models have two."""
_DEPTH = """\
The table shows the test nats of the variants `:quick` with 2, 4, 6 and 8 layers. All models have
0.3 million parameters, so deeper models are narrower. The entropy of the frequencies of the
characters is about 2.99 nats. The command is `python scripts/reproduce.py --table=charlm
--size=quick --data=ptb --model=all --depth=2,4,6,8 --seeds=3`."""
_PERCENT = """\
Models are trained on the first part of the text, given in percent. Our test text is the same for
all shares. The paper's test text depends on the share, so its numbers need not decrease as the
share grows."""


def page(records: Mapping[str, Record], pictures: Sequence[Picture] = ()) -> str:
    """Returns the page as Markdown.

    Args:
      records: the records, by file name.
      pictures: the pictures of the records.
    """
    cells, others = sort(records)
    shown = {picture.name.rpartition("/")[2]: picture.markdown() for picture in pictures}
    return join([
        _INTRODUCTION,
        _depth(cells),
        shown.pop("depth_quick.png", ""),
        shown.pop("gradients_quick.png", ""),
        _converge(cells),
        *(shown.pop(name, "") for name in ("epochs.png", "percent_converge.png")),
        _quick(cells),
        shown.pop("curves_quick.png", ""),
        *(_section(title, text, lines, cells) for title, (text, lines) in _paper().items()),
        *(shown.pop(f"curves_{size}.png", "") for size in ("talk", "10m", "24m")),
        _percent(cells),
        *shown.values(),
        _coverage(cells),
        _others(others),
    ])  # fmt: skip


def _paper() -> dict[str, tuple[str, list[Line]]]:
    """Returns the introduction and the rows of each section with published numbers, by title."""
    return {
        "The talk's table": (_TALK, _lines_of_talk()),
        "The paper's figures: 10 million parameters": (_MAIN, _lines_of_main("10m")),
        "The paper's figures: 24 million parameters": (_MAIN, _lines_of_main("24m")),
    }


def counted(cells: Cells) -> dict[str, tuple[int, int]]:
    """Counts the published results of each section.

    Returns:
      By section, the number of results for which a run has finished, and the number of all results.
    """
    counted = {}
    for title, (_, lines) in _paper().items():
        named = [cell for _, number, cell in lines if number != "-"]
        counted[title] = sum(bool(finished(cells.get(cell, ()))) for cell in named), len(named)
    return counted


def _coverage(cells: Cells) -> str:
    reason = (
        "Models of the paper's sizes were not trained to the end, up to 100 epochs: it takes hours "
        "on a GPU,\nand days on a CPU."
    )
    command = "python scripts/reproduce.py --table=charlm --model=all"
    return coverage(counted(cells), reason, command)


def sort(records: Mapping[str, Record]) -> tuple[Cells, dict[str, Record]]:
    """Returns the records by cell, and the records with other options by file name."""
    cells: dict[Cell, list[Record]] = defaultdict(list)
    others: dict[str, Record] = {}
    for name, record in records.items():
        if cell := cell_of(record):
            cells[cell].append(record)
        else:
            others[name] = record
    return cells, others


def cell_of(record: Record) -> Cell | None:
    """Returns the cell whose config is that of a run; None if there is none.

    The two configs may differ in `data.percent` and in the options that `differing` ignores.
    """
    data, model = _known_types().get(_types(record["config"]), ("", ""))
    if not data:
        return None
    for size, depths in _DEPTHS.items():
        for depth in depths:
            others = differing(record, _config(data, model, size, depth))
            if others <= {"data.percent"}:
                percent = record["config"]["data"]["percent"] if others else 0
                return Cell(data, model, size, depth, percent)
    return None


def sort_key(cell: Cell) -> tuple[int, ...]:
    """Returns a key to sort cells by size, text, depth, model and share of the text."""
    size, data, model = (list(names).index(name) for names, name in (
        (_DEPTHS, cell.size), (DATA, cell.data), (NAMES, cell.model),
    ))  # fmt: skip
    return size, data, cell.depth, model, cell.percent


def _types(config: Mapping[str, Any]) -> tuple[str, str]:
    return config["data"]["type"], current_name(config["model"]["mixer"]["type"])


@functools.cache
def _known_types() -> dict[tuple[str, str], tuple[str, str]]:
    """Returns the pairs (text, model), by the types of data set and mixer in their configs.

    A record's types select the configs to compare it with.
    """
    return {
        (_types(_config(data, "gru"))[0], _types(_config("ptb", model))[1]): (data, model)
        for data in DATA
        for model in NAMES
    }


@functools.cache
def _config(data: str, model: str, size: str = "10m", depth: int = 2) -> dict[str, Any]:
    return rows.charlm(data, model, size, depth).load()


def epoch(record: Record, step: int) -> int:
    """Returns the epoch of a step, counted from 1; 0 for step 0."""
    return -(-step // record["steps_per_epoch"])


def _ours(runs: Sequence[Record]) -> list[str]:
    """Returns a row's cells in the columns "ours", "epochs run / best", "time" and "data"."""
    if done := finished(runs):
        run = span(epoch(record, record["steps"]) for record in done)
        losses = [record["test"]["loss"] for record in done]
        return [mean(losses, digits=3), f"{run} / {_best_epochs(done)}", *time_and_data(done)]
    furthest = max(runs, key=lambda record: record["steps"])
    passes, planned = (furthest[key] / furthest["steps_per_epoch"]
                       for key in ("steps", "steps_planned"))  # fmt: skip
    tests, best = (
        dict(furthest.get("curves", {}).get("test", [])),
        furthest.get("validation", {}).get("step"),
    )
    loss = f"stopped at {tests[best]:.3f}" if best in tests else "stopped"
    at = f" / {epoch(furthest, best)}" if best in tests else ""
    return [loss, f"{passes:.1f} of up to {planned:.0f}{at}", *time_and_data([furthest])]


def _best_epochs(done: Sequence[Record]) -> str:
    return span(epoch(record, record["test"]["step"]) for record in done)


def _bits(runs: Sequence[Record]) -> str:
    bits = [record["test"]["bits_per_character"] for record in finished(runs)]
    return mean(bits, digits=3).partition(",")[0] if bits else ""


def _section(title: str, text: str, lines: Iterable[Line], cells: Cells) -> str:
    """Returns a section with the rows that have runs; "" if no row has runs."""
    shown = [[name, paper, *_ours(cells[cell])] for name, paper, cell in lines if cell in cells]
    if not shown:
        return ""
    return join([f"## {title}", text, table(f"text, model | {_COLUMNS}", shown)]).rstrip()


def _lines_of_talk() -> list[Line]:
    return [
        (f"{DATA[data]}, {depth} layers, {NAMES[model]}", TALK.get((data, depth, model), "-"),
         Cell(data, model, "talk", depth))
        for data in DATA
        for depth in _DEPTHS["talk"]
        for model in NAMES
    ]  # fmt: skip


def _lines_of_main(size: str) -> list[Line]:
    return [
        (f"{DATA[data]}, {NAMES[model]}", MAIN.get((data, size, model), "-"),
         Cell(data, model, size))
        for data in DATA
        for model in NAMES
    ]  # fmt: skip


def _quick(cells: Cells) -> str:
    """Returns the section on our small models of two layers, with a table for each text.

    A text without runs has no table. Without any runs, returns "".
    """
    columns = (
        "model | test nats | bits per character | epochs run / best | parameters | time | data"
    )
    sections = []
    for data in DATA:
        found = {model: runs for model in NAMES if (runs := cells.get(Cell(data, model, "quick")))}
        if found:
            lines = []
            for model, runs in found.items():
                ours, *others, time, kind = _ours(runs)
                parameters = span(record["parameters"] for record in runs)
                lines.append([NAMES[model], ours, _bits(runs), *others, parameters, time, kind])
            sections.append(f"### {DATA[data]}\n\n{table(columns, lines)}")
    title = "## Small models, minutes on two CPU cores"
    return join([title, _QUICK, *sections]).rstrip() if sections else ""


def _depth(cells: Cells) -> str:
    """Returns the section on depth, with a table for each text.

    A text without finished runs of more than two layers is left out. If no text is left, the result
    is "".
    """
    depths, sections = _DEPTHS["quick"], []
    for data in DATA:
        runs = {
            (model, depth): finished(cells.get(Cell(data, model, "quick", depth), []))
            for model in NAMES
            for depth in depths
        }
        if any(found for (_, depth), found in runs.items() if depth != depths[0]):
            lines = [
                [NAMES[model], *(_nats(runs[model, depth]) for depth in depths)] for model in NAMES
            ]
            columns = "model | " + " | ".join(f"{depth} layers" for depth in depths)
            sections.append(f"### {DATA[data]}, depth\n\n{table(columns, lines)}")
    return join(["## Depth, small models", _DEPTH, *sections]).rstrip() if sections else ""


def _converge(cells: Cells) -> str:
    """Returns the section on `:converge`, with a row for each text, depth, share and model.

    Only finished runs are shown. Without any, returns "".
    """
    found = sorted((cell for cell in cells if cell.size == "converge"), key=sort_key)
    lines = []
    for cell in sorted(found, key=lambda cell: (cell.data, cell.depth, _share(cells[cell]))):
        if done := finished(cells[cell]):
            epochs = [epoch(record, record["test"]["step"]) for record in done]
            lines.append([
                f"{DATA[cell.data]}, {cell.depth} layers, {_share(done)} %", NAMES[cell.model],
                mean([record["test"]["loss"] for record in done], digits=3), _bits(done),
                mean(epochs).partition(",")[0],
                span(epoch(record, record["steps"]) for record in done),
            ])  # fmt: skip
    if not lines:
        return ""
    columns = "text, share | model | test nats | bits per character | best epoch | epochs run"
    title = "## Convergence and statistical efficiency, small models"
    return join([title, _CONVERGE, table(columns, lines)]).rstrip()


def _share(runs: Sequence[Record]) -> int:
    return runs[0]["config"]["data"]["percent"]


def _nats(done: Sequence[Record]) -> str:
    return mean([record["test"]["loss"] for record in done], digits=3) if done else "not run"


def _percent(cells: Cells) -> str:
    """Returns the section on runs with other shares of the text than the configs'; "" if none.

    Runs of `:converge` are left out.
    """
    lines: list[Line] = []
    for cell in sorted(cells, key=sort_key):
        if cell.percent and cell.size != "converge":
            name = f"{DATA[cell.data]}, {NAMES[cell.model]}, {cell.size}, {cell.percent} %"
            number = PERCENT.get((cell.data, cell.percent, cell.model), "-")
            lines.append((name, number if cell.size == "10m" else "-", cell))
    return _section("Shares of the text", _PERCENT, lines, cells)


def _others(records: Mapping[str, Record]) -> str:
    if not records:
        return ""
    lines = [
        [f"[{name}]({name})", ours, _bits([record]), *others]
        for name, record in records.items()
        for ours, *others in [_ours([record])]
    ]
    columns = "record | test nats | bits per character | epochs run / best | time | data"
    return f"## Runs with other options\n\n{table(columns, lines)}"
