"""Character language modeling with a GRU.

    python -m lru.train --config=configs/charlm_gru.py:ptb,quick --workdir=runs/ptb-gru \
        --manual_dir=DIR

The first ablation of the Lattice Recurrent Unit: a single state, which is passed both to the next
layer and to the next step.

Test cross entropy at ten million parameters, in nats per character, read off the curves of Ahuja &
Morency (2018): 0.973 on the Penn Treebank, 1.164 on War and Peace, 1.102 on enwik8, 1.028 on
text8. As far as is known, each value comes from one run.

The reset gate is applied after the matrix product, as in PyTorch's GRU, which the authors' code
uses; `--config.model.mixer.reset_after=False` gives the GRU of the paper's equations.

lru.training.recipes.charlm explains the variants: data, budgets and depths.
"""

from ml_collections import ConfigDict

from lru.training.recipes import charlm


def get_config(variant: str = "") -> ConfigDict:
    return charlm.build("gru", variant)
