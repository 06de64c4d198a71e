"""Character language modelling with the Linear Recurrent Unit.

    python -m lru.train --config=configs/charlm_linear_lru.py:ptb,quick --workdir=runs/ptb-linear \
        --manual_dir=DIR

The other unit of this library, `lru.LRU`, in residual blocks as for the Long Range Arena, at the
same number of parameters. It is in neither paper.

Data, budgets and depths are variants, and explained in lru.training.recipes.charlm.
"""

from ml_collections import ConfigDict

from lru.training.recipes import charlm


def get_config(variant: str = "") -> ConfigDict:
    return charlm.build("linear_lru", variant)
