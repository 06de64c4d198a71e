"""The results of Ahuja & Morency (2018), for comparison with ours.

All results are test cross entropies in nats per character. As far as is known, each comes from one
run. The paper's results, `MAIN` and `PERCENT`, are read off the figures that the authors published
with their code, accurate to 0.002, or to 0.001 if they have four decimals; `curves.csv` states the
accuracy of the curves. `TALK` has the results printed in the first author's talk of May 2017. The
keys of `NAMES` are the models of `lru.training.recipes.charlm`.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

DATA = {
    "ptb": "Penn Treebank",
    "warpeace": "War and Peace",
    "enwik8": "enwik8",
    "text8": "text8",
}
NAMES = {
    "gru": "GRU",
    "ps_lru": "PS-LRU",
    "rg_lru": "RG-LRU",
    "lru": "LRU",
    "lstm": "LSTM",
    "rhn": "RHN",
    "grid_lstm": "Grid-LSTM",
    "linear_lru": "linear LRU",
}
Points = list[tuple[int, float]]


def _table(columns: Sequence[tuple], text: str) -> dict[tuple, str]:
    """Parses lines that each contain a model and a number for each column.

    Returns:
      The numbers, as text, by (*column, model).
    """
    rows = [line.split() for line in text.strip().splitlines()]
    return {
        (*column, model): number
        for column, numbers in zip(columns, zip(*(row[1:] for row in rows), strict=True))
        for model, number in zip((row[0] for row in rows), numbers)
    }


# (data, size, model) -> test loss after the epoch with the best validation loss.
MAIN = _table(
    [(data, size) for data in DATA for size in ("10m", "24m")],
    """
gru         0.9726  0.980   1.1635  1.164   1.1015  1.0862  1.0278  1.0399
ps_lru      0.971   0.9691  1.1483  1.1518  1.0904  1.0707  1.0192  1.0177
rg_lru      0.9718  0.9691  1.1431  1.1557  1.0737  1.0652  1.0149  1.0085
lru         0.9649  0.9666  1.1410  1.1501  1.0570  1.0412  1.0101  0.9971
lstm        0.973   0.967   1.159   1.160   1.0755  1.035   1.013   0.995
rhn         0.986   0.979   1.225   1.201   1.206   1.093   1.099   1.065
grid_lstm   0.9696  0.971   1.149   1.172   1.077   1.035   1.0091  0.987
""",
)

# (data, layers, model) -> test loss; the talk's "LRU" is the RG-LRU of the paper.
TALK = _table(
    [(data, depth) for data in ("ptb", "warpeace") for depth in (2, 4, 6, 8)],
    """
gru         1.107  1.092  1.125  2.99   1.285  1.293  1.344  3.104
rg_lru      1.097  1.102  1.101  1.103  1.279  1.280  1.281  1.287
lstm        1.110  1.13   1.254  1.311  1.297  1.353  1.530  3.100
rhn         1.110  1.102  1.107  -      1.294  1.298  1.306  1.305
grid_lstm   1.119  1.106  1.111  1.105  1.319  1.317  1.312  1.31
""",
)

# (data, percentage of the text, model) -> test loss, at ten million parameters.
PERCENT = _table(
    [(data, percent) for data in ("ptb", "text8") for percent in (20, 40, 60, 80, 100)],
    """
gru         1.1207  1.0025  0.9965  0.9807  0.9727  1.1587  1.0949  1.0671  1.0023  1.0280
ps_lru      1.117   1.0048  1.0089  0.9836  0.971   1.163   1.0987  1.0693  1.0006  1.0191
rg_lru      1.1194  1.0058  1.0025  0.9799  0.9718  1.1630  1.0971  1.0627  0.9965  1.0149
lru         1.1111  0.9926  0.9908  0.9703  0.9650  1.1571  1.0932  1.0617  0.9912  1.0102
lstm        1.183   1.035   1.011   0.995   0.973   1.156   1.096   1.069   0.995   1.013
rhn         1.155   1.019   1.013   0.991   0.986   1.182   1.113   1.094   1.030   1.098
grid_lstm   1.163   1.015   1.001   0.985   0.970   1.159   1.099   1.065   0.995   1.009
""",
)


def read_curves() -> dict[tuple[str, str, str], Points]:
    """Returns the curves in curves.csv, by (data, size, model).

    Each curve is a list of pairs (epoch, test loss), with epochs counted from 0.
    """
    curves: dict[tuple[str, str, str], Points] = defaultdict(list)
    with Path(__file__).with_name("curves.csv").open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        for row in rows:
            key = (row["data"], row["size"], row["model"])
            curves[key].append((int(row["epoch"]), float(row["loss"])))
    return dict(curves)
