"""Character language modeling with a recurrent highway network.

    python -m lru.train --config=configs/charlm_rhn.py:ptb,quick --workdir=runs/ptb-rhn \
        --manual_dir=DIR

A baseline for the Lattice Recurrent Unit, with two micro-steps in each time step. As in the code of
Ahuja & Morency, it lacks the dropout and the negative initial gate biases of Zilly et al. (2017),
and is therefore weak.

Test cross entropy at ten million parameters, in nats per character, read off the curves of Ahuja &
Morency (2018): 0.986 on the Penn Treebank, 1.225 on War and Peace, 1.206 on enwik8, 1.099 on
text8. As far as is known, each value comes from one run.

lru.training.recipes.charlm explains the variants: data, budgets and depths.
"""

from ml_collections import ConfigDict

from lru.training.recipes import charlm


def get_config(variant: str = "") -> ConfigDict:
    return charlm.build("rhn", variant)
