"""Character language modeling with a Grid-LSTM.

    python -m lru.train --config=configs/charlm_grid_lstm.py:ptb,quick --workdir=runs/ptb-grid \
        --manual_dir=DIR

A baseline for the Lattice Recurrent Unit: each layer has an LSTM in depth, followed by an LSTM in
time.

Test cross entropy at ten million parameters, in nats per character, read off the curves of Ahuja &
Morency (2018): 0.970 on the Penn Treebank, 1.149 on War and Peace, 1.077 on enwik8, 1.009 on
text8. As far as is known, each value comes from one run.

lru.training.recipes.charlm explains the variants: data, budgets and depths.
"""

from ml_collections import ConfigDict

from lru.training.recipes import charlm


def get_config(variant: str = "") -> ConfigDict:
    return charlm.build("grid_lstm", variant)
