"""Recall with the Linear Recurrent Unit: name the first of 1,024 tokens after reading the last.

    python -m lru.train --config=configs/recall.py:quick --workdir=runs/recall

variant      what                                            cost                     test accuracy
(none)       one layer of 32 modes, 1,024 tokens             1 minute, two CPU cores  100 %
:quick       the same, evaluated less often, on fewer data   1 minute, two CPU cores  99 % at least
:smoke       32 tokens, a tiny model, for tests              seconds                  none expected
:ring ...    an ablation, see lru.training.recipes.lra       minutes if dense         see below

The task needs only memory: the model must keep one token and ignore all others. Chance is 25 %. The
dense recurrences, the recurrences initialized on the full disk, and `ring` (the LRU without gamma,
and with theta itself as the parameter) stay near chance. This config adds the following ablations
to those of lru.training.recipes.lra:

full_phase       the LRU with phases up to 2 pi instead of pi / 10
ring_full_phase  `ring` with phases up to 2 pi
s4d_fit, s5_fit  S4D and S5 with step sizes of 1e-4 to 1e-3, which fit the time scales of the task;
                 `s4d` and `s5` have the default step sizes, 1e-3 to 1e-1

The task and its options are this library's own, not from a paper. `scripts/reproduce.py
--table=recall --length=all` runs all ablations at several lengths and learning rates; see
results/recall.md.
"""

import math

from ml_collections import ConfigDict

from lru.training.recipes import lra

RING = dict(r_min=0.999, r_max=0.9999)  # Path-X's, Table 8 of Orvieto et al. (2023)
_FULL_PHASE = dict(**RING, max_phase=2 * math.pi)
_FIT = dict(dt_min=1e-4, dt_max=1e-3)  # time scales of 2,000 steps and more
ABLATIONS = {
    "full_phase": dict(type="lru:LRU", **_FULL_PHASE),
    "ring_full_phase": dict(lra.ABLATIONS["ring"], **_FULL_PHASE),
    "s4d_fit": dict(lra.ABLATIONS["s4d"], **_FIT),
    "s5_fit": dict(lra.ABLATIONS["s5"], blocks=1, **_FIT),
}


def get_config(variant: str = "") -> ConfigDict:
    return lra.build(variant, table, quick, smoke, ABLATIONS, ring=RING, s5=dict(blocks=1))


def table() -> ConfigDict:
    config = lra.common()

    config.data.type = "lru.data.recall:Recall.create"
    config.data.length = 1024  # T
    config.data.classes = 4  # tokens to recall
    config.data.distractors = 8  # other tokens, which fill the sequence
    config.data.position = 0  # recall the first token
    config.data.num_train = 25_600  # steps * batch_size, so that no example is seen twice
    config.data.num_validation = 500
    config.data.num_test = 2_000
    config.data.seed = 0

    config.model.num_layers = 1  # so that the memory is that of one recurrence
    config.model.d_model = 32
    config.model.norm = "layer"  # its statistics do not mix steps
    config.model.glu = "half"  # Path-X's, Appendix D.1
    config.model.dropout = 0.0
    config.model.pooling = "last"  # only the state links the first step to the logits
    config.model.remat = False  # one layer needs little memory
    config.model.mixer.d_state = 32
    config.model.mixer.update(RING)
    config.model.mixer.max_phase = math.pi / 10  # Path-X's, Table 8

    config.optimizer.learning_rate = 3e-3
    config.optimizer.groups = ((r".*", 1.0, 0.0),)  # no weight decay: Adam
    config.optimizer.warmup_fraction = 0.0  # the rate is constant
    config.optimizer.end_learning_rate = config.optimizer.get_oneway_ref("learning_rate")

    config.train.steps = 800
    config.train.batch_size = 32
    config.train.eval_batch_size = 100
    config.train.log_every = 50
    config.train.eval_every = 50
    config.train.checkpoint_every = 200
    config.train.record_eigenvalues = True  # before training, and of the tested checkpoint
    return config


def quick(config: ConfigDict) -> None:
    config.data.update(num_validation=200, num_test=1_000)
    config.train.update(eval_every=100)


def smoke(config: ConfigDict) -> None:
    config.data.update(length=32, num_train=64, num_validation=20, num_test=21)
    config.model.update(d_model=8)
    config.model.mixer.update(d_state=6)
    config.train.update(steps=6, batch_size=8, eval_batch_size=8)
    config.train.update(log_every=2, eval_every=3, checkpoint_every=3)
