"""Character language modelling with the Reset Gate LRU.

    python -m lru.train --config=configs/charlm_rg_lru.py:ptb,quick --workdir=runs/ptb-rg-lru \
        --manual_dir=DIR

The third rung of the ladder: a reset gate for either direction, one update gate. (Griffin's RG-LRU
shares nothing with it but the letters.)

Test cross entropy at ten million parameters, in nats a character, read off the curves of Ahuja &
Morency (2018): 0.972 on the Penn Treebank, 1.143 on War and Peace, 1.074 on enwik8, 1.015 on
text8: one run each, as far as is known.

Data, budgets and depths are variants, and explained in lru.training.recipes.charlm.
"""

from ml_collections import ConfigDict

from lru.training.recipes import charlm


def get_config(variant: str = "") -> ConfigDict:
    return charlm.build("rg_lru", variant)
