"""The settings that the six tasks of the Long Range Arena share, and the paper's ablations.

A variant of a task is a size, an ablation, or both: `configs/lra_text.py:quick`, `:ring`,
`:quick,s5`.

size         (none) the paper's; quick: minutes on two CPU cores; smoke: seconds, for tests
ablation     the recurrence of every block, and its tables in Orvieto et al. (2023)
  relu       dense, x_k = ReLU(A x_{k-1} + B u_k)                    Tables 1 and 6
  tanh       dense, with tanh                                        Tables 1 and 6
  linear     dense, without a nonlinearity                           Tables 1, 2, 6 and 7
  real_imag  diagonal, with learned Re lambda and Im lambda          Tables 2 and 7
  exp        diagonal, with lambda = exp(-nu + i theta)              Tables 2 and 7
  stable_exp diagonal, with lambda = exp(-exp(nu_log) + i theta)     Tables 2 and 7
  ring       stable_exp, initialized on the ring of Table 8          Tables 2 and 8
  (none)     ring with gamma, and theta = exp(theta_log): the LRU    Tables 2, 3 and 8
  s4d, s5    other layers; the paper gives N for S5, not for S4D     Table 3
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from lru.training.recipes.variants import choose

# The layers' names for A (in the LRU, nu and theta), B, gamma and Delta of Appendix D.2.
RECURRENT = (
    r"mixer/(A|B|a|b|nu|theta|nu_log|theta_log|gamma_log|B_re|B_im|Lambda_re|Lambda_im|log_step)$"
)


def common() -> ConfigDict:
    """Returns the options that the tasks share; each task sets the others, and may change these."""
    config = ConfigDict()
    config.seed = 0

    config.data = ConfigDict()

    config.model = ConfigDict()
    config.model.type = "lru.models:SequenceClassifier"
    config.model.norm = "batch"  # Appendix D.1; not in the paper: statistics exclude padding
    config.model.norm_momentum = 0.95  # not in the paper: S5's default
    config.model.glu = "full"  # Appendix D.1
    config.model.tie_dropout = True  # not in the paper: as in S5
    config.model.pooling = "mean"  # not in the paper: as in S5, over valid steps
    config.model.dtype = "float32"  # not in the paper; or "bfloat16": for activations and products
    config.model.remat = None  # changes no result; None: True where memory is scarce

    config.model.mixer = ConfigDict()
    config.model.mixer.type = "lru:LRU"
    config.model.mixer.max_phase = 2 * math.pi  # Table 8, all tasks but Path-X
    config.model.mixer.bidirectional = False  # Appendix D.1, all but Pathfinder and Path-X
    config.model.mixer.method = "auto"
    config.model.mixer.dtype = config.model.get_oneway_ref("dtype")

    config.optimizer = ConfigDict()
    config.optimizer.b1 = 0.9  # not in the paper: the usual value
    config.optimizer.b2 = 0.999  # not in the paper: the usual value
    config.optimizer.eps = 1e-8  # not in the paper: the usual value
    config.optimizer.warmup_fraction = 0.1  # Appendix D.2
    config.optimizer.end_learning_rate = 1e-7  # Appendix D.2: also the rate at the start of warm-up

    config.train = ConfigDict()
    config.train.eval_batch_size = 50
    config.train.log_every = 100
    config.train.eval_every = 1_000
    config.train.checkpoint_every = 500
    config.train.tensorboard = False
    config.train.steps_per_call = 10  # changes no result
    config.train.device_data_mb = 1024  # changes no result
    config.train.matmul_precision = "auto"  # "tensorfloat32" on a GPU, "float32" elsewhere
    return config


def groups(recurrent_factor: float, weight_decay: float) -> tuple[tuple[str, float, float], ...]:
    """Returns the parameter groups of Appendix D.2: the recurrent parameters, and all others.

    Each row is (regex, learning rate factor, weight decay). Table 10 gives the values of both
    arguments.
    """
    return ((RECURRENT, recurrent_factor, 0.0), (r".*", 1.0, weight_decay))


def build(
    variant: str,
    paper: Callable[[], ConfigDict],
    quick: Callable[[ConfigDict], None],
    smoke: Callable[[ConfigDict], None],
    ablations: Mapping[str, Mapping[str, Any]] | None = None,
    **starts: Mapping[str, Any],
) -> ConfigDict:
    """Returns the config of a variant of a task.

    Args:
      variant: a size and an ablation, separated by a comma; one or both may be left out.
      paper: a function that returns the config of the paper's size.
      quick: a function that changes this config to a small size.
      smoke: a function that changes this config to a tiny size.
      ablations: the mixer options of further ablations of this task, by name.
      **starts: further mixer options for this task, by ablation, such as the radii for `ring`,
        which may differ from the LRU's. For the tasks of the Long Range Arena, the options for `s5`
        are from S5's published script for the task, and the options for `s4d` are from S4's
        published config; N, the direction, the parameter groups and the schedule remain those of
        Orvieto et al. (2023). If N is not a multiple of 2 * `blocks`, S5 uses a single block.

    Raises:
      UserError: if a size or ablation does not exist, or if two sizes or two ablations are named.
    """
    sizes = {"quick": quick, "smoke": smoke}
    known = {**ABLATIONS, **(ablations or {})}
    size, ablation = choose(variant, sizes, known)
    config = paper()
    if size:
        sizes[size](config)
    if ablation:
        _set_mixer(config, ablation, {**known[ablation], **starts.get(ablation, {})})
    return config


_FULL_DISK = dict(r_min=0.0, r_max=1.0, max_phase=2 * math.pi)  # Table 7
_DENSE, _DIAGONAL = "lru.baselines:DenseRNN", "lru.baselines:DiagonalRNN"
_S4D, _S5 = "lru.baselines:S4D", "lru.baselines:S5"
ABLATIONS: dict[str, dict[str, Any]] = {
    "relu": dict(type=_DENSE, activation="relu"),
    "tanh": dict(type=_DENSE, activation="tanh"),
    "linear": dict(type=_DENSE, activation="linear"),
    "real_imag": dict(type=_DIAGONAL, parameterization="real_imag", **_FULL_DISK),
    "exp": dict(type=_DIAGONAL, parameterization="exp", **_FULL_DISK),
    "stable_exp": dict(type=_DIAGONAL, parameterization="stable_exp", **_FULL_DISK),
    "ring": dict(type=_DIAGONAL, parameterization="stable_exp"),
    "s4d": dict(type=_S4D),
    "s5": dict(type=_S5),
}


def _set_mixer(config: ConfigDict, ablation: str, options: Mapping[str, Any]) -> None:
    """Replaces a config's mixer with that of an ablation.

    The new mixer keeps N, `bidirectional`, the dtype and, unless it is dense, the method. `ring`
    also keeps `max_phase`. `s4d` sets the model's `chunk_size` to 0.
    """
    lru = config.model.mixer
    shared = dict(d_state=lru.d_state, bidirectional=lru.bidirectional)
    mixer = ConfigDict({**shared, **options})
    mixer.dtype = config.model.get_oneway_ref("dtype")
    if mixer.type != _DENSE:
        mixer.method = lru.method
    if ablation == "ring":
        mixer.max_phase = lru.max_phase
    if mixer.type == _S5 and lru.d_state % (2 * mixer.get("blocks", 1)):
        mixer.blocks = 1
    if mixer.type == _S4D:
        config.model.chunk_size = 0  # changes no result: a convolution is fastest without chunks
    config.model.mixer = mixer
