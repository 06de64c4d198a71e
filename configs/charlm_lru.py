"""Character language modeling with the Lattice Recurrent Unit.

    python -m lru.train --config=configs/charlm_lru.py:ptb,quick --workdir=runs/ptb-lru \
        --manual_dir=DIR

The complete unit: a reset gate and an update gate for each direction, depth and time.

Test cross entropy at ten million parameters, in nats per character, read off the curves of Ahuja &
Morency (2018): 0.965 on the Penn Treebank, 1.141 on War and Peace, 1.057 on enwik8, 1.010 on
text8. As far as is known, each value comes from one run.

lru.training.recipes.charlm explains the variants: data, budgets and depths.
"""

from ml_collections import ConfigDict

from lru.training.recipes import charlm


def get_config(variant: str = "") -> ConfigDict:
    return charlm.build("lru", variant)
