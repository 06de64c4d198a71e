"""Character language modeling with the Reset Gate LRU.

    python -m lru.train --config=configs/charlm_rg_lru.py:ptb,quick --workdir=runs/ptb-rg-lru \
        --manual_dir=DIR

The third ablation of the Lattice Recurrent Unit: one reset gate for each of the two directions,
depth and time, and one update gate that both directions share. (Griffin's RG-LRU shares only the
name.)

Test cross entropy at ten million parameters, in nats per character, read off the curves of Ahuja &
Morency (2018): 0.972 on the Penn Treebank, 1.143 on War and Peace, 1.074 on enwik8, 1.015 on
text8. As far as is known, each value comes from one run.

lru.training.recipes.charlm explains the variants: data, budgets and depths.
"""

from ml_collections import ConfigDict

from lru.training.recipes import charlm


def get_config(variant: str = "") -> ConfigDict:
    return charlm.build("rg_lru", variant)
