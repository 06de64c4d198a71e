"""Character language modeling with an LSTM.

    python -m lru.train --config=configs/charlm_lstm.py:ptb,quick --workdir=runs/ptb-lstm \
        --manual_dir=DIR

A baseline for the Lattice Recurrent Unit: LSTM layers, stacked as in PyTorch.

Test cross entropy at ten million parameters, in nats per character, read off the curves of Ahuja &
Morency (2018): 0.973 on the Penn Treebank, 1.159 on War and Peace, 1.076 on enwik8, 1.013 on
text8. As far as is known, each value comes from one run.

lru.training.recipes.charlm explains the variants: data, budgets and depths.
"""

from ml_collections import ConfigDict

from lru.training.recipes import charlm


def get_config(variant: str = "") -> ConfigDict:
    return charlm.build("lstm", variant)
