"""Retrieval of the Long Range Arena with the Linear Recurrent Unit: does one paper cite the other?

    python -m lru.train --config=configs/lra_retrieval.py --workdir=runs/retrieval --manual_dir=DIR

variant     what                                             cost                     test accuracy
(none)      Table 10 of Orvieto et al. (2023)                100,000 steps            89.9 (0.1) %
:quick      short synthetic pairs, small model               1 minute, two CPU cores  95 % at least
:smoke      a few synthetic pairs, tiny model, for tests     seconds                  none expected
:ring ...   an ablation, see lru.training.recipes.lra

89.9 (0.1) is the paper's mean (standard error) of three runs; chance is 50 %. Except in :quick and
:smoke, the pairs are read from --manual_dir: from LRA's archive, 8 GB, packed or unpacked; or, with
`--config.data.release=stand_in`, from other files of the same format; scores on these cannot be
compared with the paper's.
"""

from ml_collections import ConfigDict

from lru.training.recipes import lra


def get_config(variant: str = "") -> ConfigDict:
    ring = dict(r_min=0.5, r_max=0.9)  # Table 8, without gamma
    s5 = dict(blocks=16, c_init="trunc_standard_normal")  # S5's script
    return lra.build(variant, paper, quick, smoke, ring=ring, s5=s5)


def paper() -> ConfigDict:
    config = lra.common()

    config.data.type = "lru.data.retrieval:Retrieval.create"
    config.data.source = "released"
    config.data.release = "lra"
    config.data.pad_to = 4000  # LRA

    config.model.type = "lru.models:SequenceMatcher"  # not in the paper: as in S4 and S5
    config.model.num_layers = 6  # Table 10
    config.model.d_model = 128  # Table 10
    config.model.dropout = 0.1  # Table 10
    config.model.mixer.d_state = 256  # Table 10
    config.model.mixer.r_min = 0.5  # Table 8
    config.model.mixer.r_max = 0.9  # Table 8

    config.optimizer.learning_rate = 2e-3  # not in the paper: as in S5
    config.optimizer.groups = lra.groups(recurrent_factor=0.5, weight_decay=0.05)  # Table 10

    config.train.steps = 100_000  # Table 10
    config.train.batch_size = 64  # Table 10
    return config


def quick(config: ConfigDict) -> None:
    config.data.update(source="made_up", pad_to=512)
    config.data.update(made_up_train=5_000, made_up_validation=500, made_up_test=2_000)
    config.model.update(num_layers=2, d_model=32)
    config.model.mixer.update(d_state=32)
    config.train.update(steps=300, batch_size=16, eval_batch_size=50)
    config.train.update(log_every=50, eval_every=100, checkpoint_every=100)


def smoke(config: ConfigDict) -> None:
    config.data.update(source="made_up", pad_to=32)
    config.data.update(made_up_train=64, made_up_validation=20, made_up_test=21)
    config.model.update(num_layers=2, d_model=8, remat=False)
    config.model.mixer.update(d_state=6)
    config.train.update(steps=6, batch_size=8, eval_batch_size=8)
    config.train.update(log_every=2, eval_every=3, checkpoint_every=3)
