"""The first page of the results: the claims of the two papers, and our results."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from paper.charlm import NAMES
from paper.charlm import TALK as TALK_NUMBERS
from paper.lra import MAIN, PARAMETERIZATION

from report import charlm, lra, recall, speed
from report.charlm import Cell, epoch
from report.format import Record, chance, device, finished, join, mean, table, totals
from report.pictures import Picture

Records = Mapping[str, Mapping[str, Record]]  # by page and file name


class _Sorted(NamedTuple):
    """The records of each page, in the form that the functions of the page's module take."""

    recall: recall.Sorted
    lra: lra.Sorted
    charlm: charlm.Cells
    speed: Mapping[str, Record]  # by file name


_HEAD = """\
# Results

Two papers use the name LRU: Orvieto et al. (2023) for the *Linear* Recurrent Unit, and Ahuja &
Morency (2018) for the *Lattice* Recurrent Unit. Their claims, and our results:"""
_NOT_REPRODUCED = """\
## What was not reproduced, and why

- **The papers' own tables, at their sizes.** {lra} of the {lra_total} rows of Orvieto et al.'s
  Tables 1, 2, 3, 5, 7 and 8 and {charlm} of the {charlm_total} numbers of Ahuja & Morency's figures
  and talk were run in full: a row takes 1 to 29 hours on the paper's A100, and only minutes of GPU
  time were available. Shortened and stopped runs are marked.
- **Small versions of the Long Range Arena's tasks do not separate the ablations.** On short ListOps
  expressions and the first 1,023 characters of a review {tanh}: these tasks need no long memory.
  Recall, below, separates the recurrences.
- **Speed on a GPU relative to the tanh RNN.** Table 4 was measured on a CPU only.
"""
_INDEX = """\
## All pages

- [Recall](recall.md): lengths, learning rates, seeds; the effect of gamma and the phase. {recall}
- [Long Range Arena](lra.md): the paper's tables, small models, shortened runs. {lra}
- [Character language models](charlm.md): depth, convergence, the talk's table. {charlm}
- [Speed and memory](speed.md): programs measured side by side. {speed}

## How to read them

`python scripts/results.py` makes every page and figure from the records in this directory; nothing
here is written by hand. `lru.train` writes a record with its run's config, seed, commit, hardware,
provenance of the data, steps and seconds; `scripts/reproduce.py` runs the rows of the tables. Ours
are means (standard errors) over the number of seeds shown. Data are *full*, as released;
*generated*, by the rules of the released data; *artificial*, of a task without released data;
*stand-in*, others of the same form; *prefix*, the first part of the released data; or *made-up*,
synthetic. A run counts for a row if it has all the options of the row's config file, and for a row
of the paper if its data are full or generated. Other runs are listed separately.
"""


def page(records: Records, drawn: Mapping[str, Sequence[Picture]]) -> str:
    """Returns the page as Markdown.

    Args:
      records: the records, by page and file name.
      drawn: the pictures, by page.
    """
    shown = {picture.name: picture.image() for pictures in drawn.values() for picture in pictures}
    found = _Sorted(
        recall.sort(records["recall"]),
        lra.sort(records["lra"]),
        charlm.sort(records["charlm"])[0],
        records["speed"],
    )
    claims = [claim for make in _CLAIMS if (claim := make(found))]
    lines = [[claim.statement, claim.paper, claim.ours] for claim in claims]
    counts = {
        name: f"{len(found)} record{'s' * (len(found) != 1)}." for name, found in records.items()
    }
    return join([
        _HEAD,
        table("claim | paper | ours", lines) if lines else "",
        _not_reproduced(found).rstrip(),
        *(claim.section(shown) for claim in claims),
        _INDEX.format(**counts).rstrip(),
    ])  # fmt: skip


class Claim(NamedTuple):
    """A claim of a paper with our results: a row of the page's table, and a section."""

    title: str
    statement: str  # the claim in words
    paper: str  # the paper's numbers
    ours: str
    text: str
    command: str
    figures: tuple[str, ...] = ()  # file names, relative to results/

    def section(self, shown: Mapping[str, str]) -> str:
        """Returns the section: title, text, command and figures.

        Args:
          shown: the Markdown of the pictures, by name.
        """
        return join([
            f"## {self.title}",
            self.text,
            f"```sh\n{self.command}\n```",
            *(shown.get(figure, "") for figure in self.figures),
        ]).rstrip()  # fmt: skip


def _memory(found: _Sorted) -> Claim | None:
    quick = found.recall.quick
    if not {"lru", "ring", "tanh", "stable_exp"} <= quick.keys():
        return None

    def accuracy(*names: str) -> str:
        means = [statistics.mean(recall.accuracies(quick[name])) for name in names
                 if name in quick]  # fmt: skip
        least, most = f"{min(means):.1f}", f"{max(means):.1f}"
        return least if least == most else f"{least} to {most}"

    config = quick["lru"][0]["config"]["data"]
    guess = "{:.1f} ({:.1f})".format(*chance(config["classes"], config["num_test"]))
    ours = (
        f"The first of 1,024 tokens recalled: LRU {accuracy('lru')} %; without gamma "
        f"{accuracy('ring')}; full disk {accuracy('real_imag', 'exp', 'stable_exp')}; dense "
        f"{accuracy('relu', 'tanh', 'linear')}; guessing {guess}"
    )
    ablations = ("tanh", "exp", "stable_exp", "ring", "lru")
    numbers = {name: PARAMETERIZATION.get(("pathx", name), "x") for name in ablations}
    path_x = "; ".join(f"{lra.NAMES[name]} {number}" for name, number in numbers.items())
    return Claim(
        "Memory: a ring near the unit circle, and gamma",
        "A linear recurrence remembers thousands of steps if its eigenvalues start on a ring near "
        "the unit circle and gamma normalizes its input; the other ablations do not",
        f"Path-X, 16,384 steps: {path_x} (x: chance)",
        ours,
        "One layer of 32 modes, 800 steps of training, half a minute on two CPU cores. S4D and S5 "
        "learn it too: the memory comes from the initial eigenvalues.",
        "python -m lru.train --config=configs/recall.py:quick --workdir=runs/recall\n"
        "python scripts/reproduce.py --table=recall --size=quick --rate=0.003  # all ablations",
        ("recall/curves_quick.png",),
    )


def _depth(found: _Sorted) -> Claim | None:
    cells = found.charlm
    small = {
        model: finished(cells.get(Cell("ptb", model, "quick", 8), ())) for model in ("gru", "lru")
    }
    if not all(small.values()):
        return None
    ours = ", ".join(
        f"{NAMES[model]} {mean([run['test']['loss'] for run in runs], digits=3)}"
        for model, runs in small.items()
    )
    stopped = []
    for model in ("gru", "rg_lru"):
        for run in cells.get(Cell("ptb", model, "talk", 8), ()):
            tests = dict(run.get("curves", {}).get("test", []))
            if (step := run.get("validation", {}).get("step")) in tests:
                passes = run["steps"] / run["steps_per_epoch"]
                stopped.append(f"{NAMES[model]} {tests[step]:.3f} ({passes:.1f} epochs)")
    sizes = f". At the talk's size, stopped: {', '.join(stopped)}" if stopped else ""
    talk = ", ".join(
        f"{NAMES[model]} {TALK_NUMBERS['ptb', 8, model]}" for model in ("gru", "rg_lru")
    )
    return Claim(
        "Depth: the lattice trains where the GRU does not",
        "Deep stacks of lattice units learn where deep GRUs do not",
        f"Penn Treebank, 8 layers, nats: {talk} (the talk of 2017)",
        f"8 layers, 0.3 million parameters, 3 epochs of a tenth of the text: {ours}{sizes}",
        "The entropy of the characters' frequencies alone is 2.99 nats: with eight layers the GRU, "
        "the LSTM and the highway network learn no more than that. Hardly anything of the GRU's "
        "gradient reaches its lower layers. The linear LRU in residual blocks is the best of the "
        "deep models.",
        "python scripts/reproduce.py --table=charlm --size=quick --data=ptb --model=all "
        "--depth=2,4,6,8",
        ("charlm/depth_quick.png", "charlm/gradients_quick.png"),
    )


def _convergence(found: _Sorted) -> Claim | None:
    models: dict[str, list[Record]] = {}
    for cell, runs in found.charlm.items():
        if (cell.data, cell.size, cell.percent) == ("ptb", "converge", 0):
            models[cell.model] = finished(runs)
    if not {"gru", "lru", "lstm"} <= models.keys():
        return None
    shown = sorted(models, key=list(NAMES).index)
    epochs = ", ".join(
        f"{NAMES[model]} "
        f"{statistics.mean(epoch(run, run['test']['step']) for run in models[model]):.1f}"
        for model in shown
    )
    nats = ", ".join(
        f"{NAMES[model]} {statistics.mean(run['test']['loss'] for run in models[model]):.3f}"
        for model in shown
    )
    return Claim(
        "Convergence and statistical efficiency",
        "Lattice units reach their best model in fewer epochs, and lose less with less text",
        "Median epochs to the best: LRU 8, PS-LRU and RG-LRU 10, GRU 14, LSTM 15, RHN 21; 20 % of "
        "the Penn Treebank: LRU 1.111 nats, GRU 1.121, LSTM 1.183",
        f"2 % of the Penn Treebank, 4 layers, mean epochs to the best: {epochs}; nats: {nats}",
        "Small models of four layers on a few per cent of the text, each trained until the "
        "authors' stopping rule ends it. Where GRU and LRU need as many epochs, the claim about "
        "epochs is not seen at this size, and the difference is in the loss alone.",
        "python scripts/reproduce.py --table=charlm --size=converge --data=ptb --model=all "
        "--depth=4 --percent=2,5,10,20,40",
        ("charlm/epochs.png", "charlm/percent_converge.png"),
    )


def _speed(found: _Sorted) -> Claim | None:
    name, tasks = speed.steps(found.speed)
    if not name:
        return None
    ratios = [speed.times_as_fast(rows) for rows in tasks.values()]
    where = device(found.speed[name])
    return Claim(
        "Speed: the LRU and the tanh RNN",
        "The LRU trains faster than the tanh RNN",
        "1.9 (ListOps) to 29 times (Text) the steps a second, on an A100",
        f"{min(ratios):.1f} to {max(ratios):.1f} times, on {where}, with small batches",
        "Steps a second of all five recurrences at Table 10's widths: [speed](speed.md). On a CPU "
        "the gain is smaller than on a GPU, which sequential steps leave idle.",
        found.speed[name]["command"],
    )


def _accuracy(found: _Sorted) -> Claim | None:
    records = found.lra.others
    shortened = lra.shortened(records)
    longest = max(shortened, key=lambda name: records[name]["steps"], default=None)
    if longest is None:
        return None
    record, (task, ablation) = records[longest], shortened[longest]
    name = f"{lra.TASKS[task]}, {lra.NAMES[ablation]}"
    steps = record["config"]["train"]["steps"]
    return Claim(
        "Accuracy on the Long Range Arena",
        "The LRU matches S4D and S5 on the Long Range Arena",
        f"{name}: {MAIN[task, ablation]} % after {lra.paper_steps(task, ablation):,} steps",
        f"{100 * record['test']['accuracy']:.1f} % with a schedule of {steps:,} steps, one seed, "
        f"on {device(record)}",
        "The paper's model at the paper's size, with fewer steps than the paper's. Small models "
        "learn all six tasks in minutes on a CPU: [all of them](lra.md).",
        f"python -m lru.train --config=configs/lra_{task}.py --config.train.steps={steps} "
        f"--workdir=runs/{task}",
        ("lra/ladder_quick.png",),
    )


_CLAIMS = (_memory, _depth, _convergence, _speed, _accuracy)


def _not_reproduced(found: _Sorted) -> str:
    cells = found.lra.cells
    lra_run, lra_total = totals(lra.counted(cells, found.lra.rings))
    charlm_run, charlm_total = totals(charlm.counted(found.charlm))
    pairs = []
    for task in ("listops", "text"):
        means = [
            statistics.mean(100 * run["test"]["accuracy"] for run in done)
            for ablation in ("tanh", "lru")
            if (done := finished(cells[task, ablation, "quick"]))
        ]
        if len(means) == 2:
            pairs.append(f"{means[0]:.1f} and {means[1]:.1f} % ({lra.TASKS[task]})")
    tanh = (
        f"the tanh RNN and the LRU have {', '.join(pairs)}"
        if pairs
        else "all recurrences are alike"
    )
    return _NOT_REPRODUCED.format(
        lra=lra_run, lra_total=lra_total, charlm=charlm_run, charlm_total=charlm_total, tanh=tanh
    )
