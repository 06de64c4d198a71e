"""Character language modelling with a GRU.

    python -m lru.train --config=configs/charlm_gru.py:ptb,quick --workdir=runs/ptb-gru \
        --manual_dir=DIR

The first rung of the ladder that leads to the Lattice Recurrent Unit: one state, which rises to the
next layer and goes on to the next step.

Test cross entropy at ten million parameters, in nats a character, read off the curves of Ahuja &
Morency (2018): 0.973 on the Penn Treebank, 1.164 on War and Peace, 1.102 on enwik8, 1.028 on
text8: one run each, as far as is known.

The reset gate stands after the matrix product, as in PyTorch's GRU and so in the authors' code;
`--config.model.mixer.reset_after=False` is the GRU of the printed equations.

Data, budgets and depths are variants, and explained in lru.training.recipes.charlm.
"""

from ml_collections import ConfigDict

from lru.training.recipes import charlm


def get_config(variant: str = "") -> ConfigDict:
    return charlm.build("gru", variant)
