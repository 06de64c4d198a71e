"""Character language modelling with a recurrent highway network.

    python -m lru.train --config=configs/charlm_rhn.py:ptb,quick --workdir=runs/ptb-rhn \
        --manual_dir=DIR

A rival of the Lattice Recurrent Unit, with two micro-steps, and, as in the authors' code, without
the bias and the dropout of its own paper: a weak one.

Test cross entropy at ten million parameters, in nats a character, read off the curves of Ahuja &
Morency (2018): 0.986 on the Penn Treebank, 1.225 on War and Peace, 1.206 on enwik8, 1.099 on
text8: one run each, as far as is known.

Data, budgets and depths are variants, and explained in lru.training.recipes.charlm.
"""

from ml_collections import ConfigDict

from lru.training.recipes import charlm


def get_config(variant: str = "") -> ConfigDict:
    return charlm.build("rhn", variant)
