"""Character language modeling with the Projected State LRU.

    python -m lru.train --config=configs/charlm_ps_lru.py:ptb,quick --workdir=runs/ptb-ps-lru \
        --manual_dir=DIR

The second ablation of the Lattice Recurrent Unit: a GRU's gates, but separate candidates for the
state in depth and the state in time.

Test cross entropy at ten million parameters, in nats per character, read off the curves of Ahuja &
Morency (2018): 0.971 on the Penn Treebank, 1.148 on War and Peace, 1.090 on enwik8, 1.019 on
text8. As far as is known, each value comes from one run.

lru.training.recipes.charlm explains the variants: data, budgets and depths.
"""

from ml_collections import ConfigDict

from lru.training.recipes import charlm


def get_config(variant: str = "") -> ConfigDict:
    return charlm.build("ps_lru", variant)
