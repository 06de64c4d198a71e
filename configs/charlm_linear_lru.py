"""Character language modeling with the Linear Recurrent Unit.

    python -m lru.train --config=configs/charlm_linear_lru.py:ptb,quick --workdir=runs/ptb-linear \
        --manual_dir=DIR

The Linear Recurrent Unit, `lru.LRU`, is in residual blocks, as on the Long Range Arena. In each
variant except :smoke, the models of all `charlm` configs have about the same number of parameters.
Neither the paper of the Linear nor that of the Lattice Recurrent Unit has this experiment.

lru.training.recipes.charlm explains the variants: data, budgets and depths.
"""

from ml_collections import ConfigDict

from lru.training.recipes import charlm


def get_config(variant: str = "") -> ConfigDict:
    return charlm.build("linear_lru", variant)
