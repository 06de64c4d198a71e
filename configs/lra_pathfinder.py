"""Pathfinder of the Long Range Arena with the Linear Recurrent Unit: are two dots on one path?

    python -m lru.train --config=configs/lra_pathfinder.py --workdir=runs/pathfinder

variant     what                                             cost                     test accuracy
(none)      Table 10 of Orvieto et al. (2023)                500,000 steps            95.1 (0.1) %
:quick      paths of 3 dashes, 16 x 16 pixels, small model   5 minutes, two CPU cores 70 % at least
:smoke      a few synthetic images, tiny model, for tests    seconds                  none expected
:ring ...   an ablation, see lru.training.recipes.lra

95.1 (0.1) is the paper's mean (standard error) of three runs; chance is 50 %. Except in :smoke, the
images are generated from a seed by the published algorithm, with one difference (see
lru.data.pathfinder.images). At the paper's size, `--config.data.source=released` reads LRA's own
images from --manual_dir instead.
"""

from ml_collections import ConfigDict

from lru.training.recipes import lra


def get_config(variant: str = "") -> ConfigDict:
    ring = dict(r_min=0.9, r_max=0.999)  # Table 8, without gamma
    s5 = dict(blocks=8, c_init="trunc_standard_normal")  # S5's script
    return lra.build(variant, paper, quick, smoke, ring=ring, s5=s5)


def paper() -> ConfigDict:
    config = lra.common()

    config.data.type = "lru.data.pathfinder:Pathfinder.create"
    config.data.source = "generated"  # or "released": LRA's own images, from --manual_dir
    config.data.resolution = 32  # LRA
    config.data.difficulty = "hard"  # LRA: paths of 14 dashes
    config.data.num_images = 200_000  # LRA
    config.data.seed = 0

    config.model.num_layers = 6  # Table 10
    config.model.d_model = 192  # Table 10
    config.model.dropout = 0.0  # Table 10
    config.model.norm_momentum = 0.9  # not in the paper: as in S5
    config.model.mixer.d_state = 256  # Table 10
    config.model.mixer.r_min = 0.9  # Table 8
    config.model.mixer.r_max = 0.999  # Table 8
    config.model.mixer.bidirectional = True  # Appendix D.1

    config.optimizer.learning_rate = 4e-3  # not in the paper: near S5's 4.5e-3 here
    config.optimizer.groups = lra.groups(recurrent_factor=0.25, weight_decay=0.05)  # Table 10

    config.train.steps = 500_000  # Table 10
    config.train.batch_size = 64  # Table 10
    config.train.eval_batch_size = 100
    config.train.eval_every = 2_500  # an epoch
    return config


def quick(config: ConfigDict) -> None:
    config.data.update(difficulty="short", resolution=16, num_images=25_000)
    config.model.update(num_layers=4, d_model=64)
    config.model.mixer.update(d_state=64)
    config.train.update(steps=1_000, eval_every=250)


def smoke(config: ConfigDict) -> None:
    config.data.update(source="made_up", made_up_train=64, made_up_validation=20, made_up_test=21)
    config.model.update(num_layers=2, d_model=8, remat=False)
    config.model.mixer.update(d_state=6)
    config.train.update(steps=6, batch_size=8, eval_batch_size=8)
    config.train.update(log_every=2, eval_every=3, checkpoint_every=3)
