"""What the six tasks of the Long Range Arena share: the model's block, the optimiser, the ladder.

A variant of a task is a size, a rung, or both: `configs/lra_text.py:quick`, `:ring`, `:quick,s5`.

size         (none) the paper's; quick: minutes on two CPU cores; smoke: seconds, for tests
rung         the recurrence of every block, by the tables of Orvieto et al. (2023)
  relu       dense, x_k = ReLU(A x_{k-1} + B u_k)                    Tables 1 and 6
  tanh       dense, with tanh                                        Tables 1 and 6
  linear     dense, without a nonlinearity                           Tables 1, 2, 6 and 7
  real_imag  diagonal, complex: real and imaginary parts are learned Tables 2 and 7
  exp        ... lambda = exp(-nu + i theta)                         Tables 2 and 7
  stable_exp ... lambda = exp(-exp(nu_log) + i theta)                Tables 2 and 7
  ring       ... and drawn from the ring of Table 8                  Tables 2 and 8
  (none)     ... normalised by gamma, theta by its logarithm: LRU    Tables 2, 3 and 8
  s4d, s5    the rivals; N is the paper's for S5, not in it for S4D  Table 3
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from lru.training.recipes.variants import choose

# What Appendix D.2 calls A, B, gamma and Delta, by the names that the rungs have for it.
RECURRENT = (
    r"mixer/(A|B|a|b|nu|theta|nu_log|theta_log|gamma_log|B_re|B_im|Lambda_re|Lambda_im|log_step)$"
)


def common() -> ConfigDict:
    """What does not differ from task to task; a task fills in its rows of Tables 8 and 10."""
    config = ConfigDict()
    config.seed = 0

    config.data = ConfigDict()

    config.model = ConfigDict()
    config.model.type = "lru.models:SequenceClassifier"
    config.model.norm = "batch"  # Appendix D.1; not in the paper: padding does not count
    config.model.norm_momentum = 0.95  # not in the paper: S5's default
    config.model.glu = "full"  # Appendix D.1
    config.model.tie_dropout = True  # not in the paper: as S5
    config.model.pooling = "mean"  # not in the paper: as S5, over valid steps
    config.model.dtype = "float32"  # not in the paper; or "bfloat16": of activations and products
    config.model.remat = True  # six layers of thousands of steps in little memory

    config.model.mixer = ConfigDict()
    config.model.mixer.type = "lru:LRU"
    config.model.mixer.max_phase = 2 * math.pi  # Table 8, all tasks but Path-X
    config.model.mixer.bidirectional = False  # Appendix D.1, all tasks but the two of paths
    config.model.mixer.method = "auto"
    config.model.mixer.dtype = config.model.get_oneway_ref("dtype")

    config.optimizer = ConfigDict()
    config.optimizer.b1 = 0.9  # not in the paper: the usual one
    config.optimizer.b2 = 0.999  # not in the paper: the usual one
    config.optimizer.eps = 1e-8  # not in the paper: the usual one
    config.optimizer.warmup_fraction = 0.1  # Appendix D.2
    config.optimizer.end_learning_rate = 1e-7  # Appendix D.2, before and after

    config.train = ConfigDict()
    config.train.eval_batch_size = 50
    config.train.log_every = 100
    config.train.eval_every = 1_000
    config.train.checkpoint_every = 500
    config.train.tensorboard = False
    config.train.steps_per_call = 10  # changes no number
    config.train.device_data_mb = 1024  # changes no number
    config.train.matmul_precision = "float32"  # or "tensorfloat32", "bfloat16": faster on a GPU
    return config


def groups(factor: float, weight_decay: float) -> tuple[tuple[str, float, float], ...]:
    """(regex, learning rate factor, weight decay): Table 10's factor, as Appendix D.2 uses it."""
    return ((RECURRENT, factor, 0.0), (r".*", 1.0, weight_decay))


def build(
    variant: str,
    paper: Callable[[], ConfigDict],
    quick: Callable[[ConfigDict], None],
    smoke: Callable[[ConfigDict], None],
    rungs: Mapping[str, Mapping[str, Any]] | None = None,
    **starts: Mapping[str, Any],
) -> ConfigDict:
    """The config of a variant.

    Args:
      variant: a size and a rung, separated by a comma; either may be left out.
      paper: makes the config of the paper's size.
      quick: makes it smaller.
      smoke: makes it tiny.
      rungs: mixers by name that this task has beside `RUNGS`.
      **starts: by rung, what its mixer begins with on this task alone: the ring of `ring`, which is
        not always the LRU's; what is in S5's own script for this task, `blocks` where N is a
        multiple of 2 `blocks`; in what S4's own config for it differs from its other ones.

    Raises:
      UserError: if there is no such size or rung, or two of one kind are named.
    """
    sizes = {"quick": quick, "smoke": smoke}
    known = {**RUNGS, **(rungs or {})}
    size, rung = choose(variant, sizes, known)
    config = paper()
    if size:
        sizes[size](config)
    if rung:
        _put(config, rung, {**known[rung], **starts.get(rung, {})})
    return config


_FULL_DISK = dict(r_min=0.0, r_max=1.0, max_phase=2 * math.pi)  # Table 7
_DENSE, _DIAGONAL = "lru.baselines:DenseRNN", "lru.baselines:DiagonalRNN"
_S4D, _S5 = "lru.baselines:S4D", "lru.baselines:S5"
RUNGS: dict[str, dict[str, Any]] = {
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


def _put(config: ConfigDict, rung: str, given: Mapping[str, Any]) -> None:
    """Replaces the mixer by a rung's, which keeps N, the direction and the type of its products."""
    lru = config.model.mixer
    kept = dict(d_state=lru.d_state, bidirectional=lru.bidirectional)
    mixer = ConfigDict({**kept, **given})
    mixer.dtype = config.model.get_oneway_ref("dtype")
    if mixer.type != _DENSE:
        mixer.method = lru.method
    if rung == "ring":
        mixer.max_phase = lru.max_phase
    if mixer.type == _S5 and lru.d_state % (2 * mixer.get("blocks", 1)):
        mixer.blocks = 1
    if mixer.type == _S4D:
        config.model.chunk_size = 0  # changes no number: a convolution is best done at once
    config.model.mixer = mixer
