"""sCIFAR with the Linear Recurrent Unit: CIFAR-10 in color, one pixel per step.

    python -m lru.train --config=configs/lra_cifar.py --workdir=runs/cifar

variant     what                                             cost                     test accuracy
(none)      Table 10 of Orvieto et al. (2023)                180,000 steps            89.0 (0.1) %
:quick      a small model                                    minutes, two CPU cores   40 % at least
:smoke      a few synthetic images, tiny model, for tests    seconds                  none expected
:ring ...   an ablation, see lru.training.recipes.lra

89.0 (0.1) is the paper's mean (standard error) of three runs; chance is 10 %. Except in :smoke, the
images, 170 MB, are downloaded, or read from --manual_dir. The Long Range Arena's own task has
grayscale images: `--config.data.color=grey`.
"""

from ml_collections import ConfigDict

from lru.training.recipes import lra


def get_config(variant: str = "") -> ConfigDict:
    ring = dict(r_min=0.9, r_max=0.99)  # Table 8, without gamma
    s5 = dict(blocks=3, c_init="lecun_normal", clip_eigenvalues=True)  # S5's script
    return lra.build(variant, paper, quick, smoke, ring=ring, s5=s5)


def paper() -> ConfigDict:
    config = lra.common()

    config.data.type = "lru.data.cifar10:CIFAR10.create"
    config.data.source = "released"
    config.data.color = "rgb"  # section 2.2: "coloured"; LRA's own is "grey"
    config.data.num_validation = 5_000  # not in the paper: as in S4 and S5; gives 200 whole epochs
    config.data.seed = 0

    config.model.num_layers = 6  # Table 10
    config.model.d_model = 512  # Table 10
    config.model.dropout = 0.1  # Table 10
    config.model.mixer.d_state = 384  # Table 10
    config.model.mixer.r_min = 0.9  # Table 8
    config.model.mixer.r_max = 0.999  # Table 8

    config.optimizer.learning_rate = 4e-3  # Appendix C.2
    config.optimizer.groups = lra.groups(recurrent_factor=0.25, weight_decay=0.05)  # Table 10

    config.train.steps = 180_000  # Table 10
    config.train.batch_size = 50  # Table 10
    return config


def quick(config: ConfigDict) -> None:
    config.model.update(num_layers=2, d_model=64)
    config.model.mixer.update(d_state=64)
    config.train.update(steps=2_500, batch_size=16)
    config.train.update(log_every=100, eval_every=500, checkpoint_every=500)


def smoke(config: ConfigDict) -> None:
    config.data.update(source="made_up", made_up_train=64, made_up_validation=20, made_up_test=21)
    config.model.update(num_layers=2, d_model=8, remat=False)
    config.model.mixer.update(d_state=6)
    config.train.update(steps=6, batch_size=8, eval_batch_size=8)
    config.train.update(log_every=2, eval_every=3, checkpoint_every=3)
