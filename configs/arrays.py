"""Your own arrays or, without a path, simulated springs, with the Linear Recurrent Unit.

    python -m lru.train --config=configs/arrays.py --workdir=runs/mine --config.data.path=data.npz

data.npz, or a folder of .npy files, has the inputs x and the targets y; see docs/own_data.md. The
type and shape of y determine the kind of target, unless --config.data.target gives the kind; the
loss and the metrics depend on the kind. Without a path, the variant names an example, in which a
random force drives a mass on a spring; see lru.data.springs:

variant     inputs           target                          test score of three seeds
(none)      force            position at every step          RMSE 0.110 to 0.158, R2 0.95 to 0.98
:stiffness  force, position  stiffness, one number           RMSE 0.044 to 0.053, R2 0.995
:shape      force, position  softening, linear or hardening  88.5 to 90.5 %
:switching  force, position  stiffness 1 or 3 at every step  94.9 to 95.3 %
:smoke      a tiny version of an example, as in :shape,smoke none expected

Each example takes about one minute on two CPU cores. Always predicting the mean gives an R2 of 0
and an RMSE of 0.73, or 0.72 in :stiffness; guessing is right in 33 % of :shape and 50 % of
:switching. The noise of the position has a standard deviation of 0.02. No paper has these tasks: an
option without a source in a comment is this library's own choice.
"""

from ml_collections import ConfigDict

from lru.training.recipes.variants import choose


def get_config(variant: str = "") -> ConfigDict:
    size, example = choose(variant, ("smoke",), ("motion", "stiffness", "shape", "switching"))
    config = arrays(example or "motion")
    if size:
        smoke(config)
    return config


def arrays(example: str) -> ConfigDict:
    config = ConfigDict()
    config.seed = 0

    config.data = ConfigDict()
    config.data.type = "lru.data.arrays:Arrays.create"
    config.data.path = ""  # --config.data.path=data.npz; "" for the example
    config.data.target = "auto"  # or "classes", "values", "step_classes", "step_values"
    config.data.validation_fraction = 0.1  # drawn with the seed, if the arrays have no splits
    config.data.test_fraction = 0.1
    config.data.seed = 0
    config.data.example = example
    config.data.num_examples = 2_000
    config.data.length = 128  # T

    config.model = ConfigDict()
    config.model.type = "lru.models:SequencePredictor"  # fits every kind of target
    config.model.d_model = 32  # small, for minutes on a CPU, like the next one
    config.model.num_layers = 2
    config.model.norm = "layer"  # statistics of each step alone, so the model stays causal
    config.model.glu = "full"  # Appendix D.1 of Orvieto et al. (2023)
    config.model.dropout = 0.0
    config.model.pooling = "mean"  # over valid steps; no effect on targets of steps
    config.model.remat = False  # short sequences need little memory
    config.model.mixer = ConfigDict()
    config.model.mixer.type = "lru:LRU"
    config.model.mixer.d_state = 32  # N
    config.model.mixer.r_min = 0.5
    config.model.mixer.r_max = 0.99  # from about 2 to 100 steps of memory
    config.model.mixer.bidirectional = False  # True where later steps may be used too

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 4e-3  # Appendix C.2 of Orvieto et al. (2023), for sCIFAR
    config.optimizer.groups = ((r".*", 1.0, 0.0),)  # no weight decay: Adam
    config.optimizer.warmup_fraction = 0.1  # Appendix D.2 of Orvieto et al. (2023)

    config.train = ConfigDict()
    config.train.steps = 2_000
    config.train.batch_size = 32
    config.train.log_every = 100
    config.train.eval_every = 200
    config.train.checkpoint_every = 200
    config.train.select = "loss"  # defined for every target; or "accuracy" (classes), "rmse"
    return config


def smoke(config: ConfigDict) -> None:
    config.data.update(num_examples=60, length=16)
    config.model.update(d_model=4, num_layers=1)
    config.model.mixer.update(d_state=4)
    config.train.update(steps=6, batch_size=8, log_every=2, eval_every=3, checkpoint_every=3)
