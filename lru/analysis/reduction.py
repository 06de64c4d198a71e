"""Model reduction of trained LRUs: the same outputs, nearly, from fewer modes.

A trained layer is a linear system. The Hankel singular values measure how much each state of its
balanced realization contributes to the mapping from inputs to outputs. Each of three reductions
returns parameters of the same layer with K modes instead of N, under the names of Appendix A of
Orvieto et al. (2023):

balanced truncation     drops the states with the smallest Hankel singular values
singular perturbation   drops the same states, but keeps the response to some constant inputs
modal truncation        drops the modes with the smallest gains

Forgione, Mejari & Piga (2024), "Model order reduction of deep structured state-space models: A
system-theoretic approach", reduce trained LRUs in these ways, and regularize their training so that
less is lost. Chahine et al. (2026), "The Curious Case of In-Training Compression of State Space
Models" (CompreSSM), truncate during training. Here, the real system of 2N states is balanced; see
`lru.analysis.balancing`.

A bidirectional layer has one Lambda and one B for both directions. They are reduced together, as
one system with the outputs [C; C2].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lru.analysis.balancing import Balanced, balance, diagonalize, input_roots, perturb, truncate
from lru.layers.linear import lru_directions
from lru.layers.state_space import Modes, modes_of, readouts

__all__ = [
    "METHODS", "balanced_truncation", "enough_modes", "find_lrus", "hankel_singular_values",
    "modal_truncation", "model_hankel_singular_values", "pad_modes", "singular_perturbation",
]  # fmt: skip

Parameters = Mapping[str, Any]
_NAMES = {"nu_log", "theta_log", "gamma_log", "B_re", "B_im", "C_re", "C_im", "D"}


def hankel_singular_values(params: Parameters, moments: Any = None) -> np.ndarray:
    """Returns the Hankel singular values of an LRU, `(2N,)`, decreasing.

    They are sqrt(eigenvalues of P Q), where P and Q are the Gramians of the real system of 2N
    states, two for each mode; see `lru.analysis.balancing`. With all but the first 2K dropped, the
    H-infinity error of balanced truncation is at most twice the sum of the others. For a
    bidirectional layer this bounds the error of the outputs [C; C2] of one state, and sqrt(2) times
    as much bounds that of the layer, which adds the outputs of two.

    Args:
      params: the parameters of an `lru.LRU`.
      moments: the second moments E[u u^T] of the layer's inputs, `(H, H)`; None for white noise.

    Raises:
      ValueError: if these are other parameters, not finite, or without any effect.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> variables = jax.jit(lru.LRU(64).init)(jax.random.key(0), jnp.ones((8, 16)))
      >>> hankel_singular_values(variables["params"]).shape
      (128,)
    """
    modes = _joint_modes(params)
    sigma = balance(modes, moments).sigma
    return np.pad(sigma, (0, 2 * len(modes.lam) - len(sigma)))


def model_hankel_singular_values(params: Parameters) -> dict[str, np.ndarray]:
    """Returns `hankel_singular_values` of every LRU in a tree of parameters, by path."""
    return {path: hankel_singular_values(layer) for path, layer in find_lrus(params).items()}


def find_lrus(params: Parameters, prefix: str = "") -> dict[str, Parameters]:
    """Returns the parameters of every LRU in a tree of parameters, by path.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> variables = jax.jit(lru.LRU(4).init)(jax.random.key(0), jnp.ones((8, 2)))
      >>> list(find_lrus({"blocks_0": {"mixer": variables["params"]}, "head": {}}))
      ['blocks_0/mixer']
    """
    if set(params) - {"C2_re", "C2_im"} == _NAMES and np.ndim(params["D"]) == 1:
        return {prefix: params}
    found: dict[str, Parameters] = {}
    for name, child in params.items():
        if isinstance(child, Mapping):
            found |= find_lrus(child, f"{prefix}/{name}".lstrip("/"))
    return found


def enough_modes(
    params: Parameters,
    *,
    energy: float | None = None,
    tolerance: float | None = None,
    moments: Any = None,
) -> int:
    """Returns the fewest modes with which balanced truncation satisfies one of two conditions.

    Args:
      params: the parameters of an `lru.LRU`.
      energy: the share of the sum of all Hankel singular values to keep, in (0, 1].
      tolerance: an upper bound, positive, of the relative H-infinity error. The condition is
        2 (sigma_{n+1} + ... + sigma_2N) <= tolerance sigma_1, which suffices because sigma_1 is at
        most the layer's own norm. Errors are often ten times smaller than this bound.
      moments: see `hankel_singular_values`.

    Raises:
      ValueError: unless exactly one of the two is given, and is in its range.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> variables = jax.jit(lru.LRU(64).init)(jax.random.key(0), jnp.ones((8, 2)))
      >>> 16 < enough_modes(variables["params"], energy=0.99) < 32
      True
    """
    if (energy is None) == (tolerance is None):
        raise ValueError(f"energy={energy} and tolerance={tolerance}; expected one of them")
    if energy is not None and not 0 < energy <= 1:
        raise ValueError(f"energy={energy}; expected more than 0 and at most 1")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance={tolerance}; expected a positive number")
    system = balance(_joint_modes(params), moments)
    dropped = np.append(np.cumsum(system.sigma[::-1])[::-1], 0)  # the sum after the first n
    most = (1 - energy) * dropped[0] if energy else (tolerance or 0) * system.sigma[0] / 2
    order = max(int(np.argmax(dropped <= most)), 1)
    return len(diagonalize(truncate(system, order)).lam)


def balanced_truncation(
    params: Parameters, modes: int, moments: Any = None
) -> dict[str, np.ndarray]:
    """Reduces an LRU to K modes by balanced truncation.

    The layer's real system of 2N states is balanced, its first states are kept, and the result is
    diagonalised; see `lru.analysis.balancing`. Its eigenvalues are inside the unit disk.
    A conjugate pair of states is one mode, and so is a real one. So 2K states are kept, or fewer if
    some eigenvalues are real.

    Args:
      params: the parameters of an `lru.LRU`, in one or both directions.
      modes: K, at most N.
      moments: see `hankel_singular_values`. The error is then small for inputs like these.

    Returns:
      The parameters of the layer with `d_state=K`, in the types given. gamma is
      sqrt(1 - |lambda|^2), as `lru.LRU` begins, and each mode has columns of B and C of one size.

    Raises:
      ValueError: if K is not from 1 to N; see also `hankel_singular_values`.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> u = jax.random.normal(jax.random.key(1), (100, 4))
      >>> variables = jax.jit(lru.LRU(32).init)(jax.random.key(0), u)
      >>> reduced = balanced_truncation(variables["params"], 16)
      >>> y = lru.LRU(32).apply(variables, u)
      >>> error = jax.jit(lru.LRU(16).apply)({"params": reduced}, u) - y
      >>> bool(jnp.linalg.norm(error) < 0.05 * jnp.linalg.norm(y))
      True
    """
    return _reduced(params, modes, truncate, moments)


def singular_perturbation(
    params: Parameters, modes: int, moments: Any = None
) -> dict[str, np.ndarray]:
    """Reduces an LRU to K modes by singular perturbation of its balanced realization.

    The dropped states are replaced by their rest for the kept ones, see
    `lru.analysis.balancing.perturb`. For K directions of the inputs (fewer if some eigenvalues are
    real), the response to a constant input is that of the whole layer; for all inputs if 2H states
    are kept. Otherwise it is closer than that of balanced truncation, which is closer at other
    frequencies. For the arguments and the result, see `balanced_truncation`.
    """
    return _reduced(params, modes, perturb, moments)


def modal_truncation(params: Parameters, modes: int, moments: Any = None) -> dict[str, np.ndarray]:
    """Reduces an LRU to the K of its modes with the largest gain at their own frequency.

    The gain of a mode is |C_i| |B_i| / (1 - |lambda_i|), with |B_i S^(1/2)| for moments S, and the
    error is at most the sum of the dropped gains. The modes kept are unchanged. For arguments and
    result; see `balanced_truncation`.
    """
    lam, into, out = _joint_modes(params)
    _check(modes, len(lam))
    into = into if moments is None else into @ input_roots(moments)[0]
    size = np.linalg.norm(into, axis=1) * np.linalg.norm(out, axis=0)
    kept = np.sort(np.argsort(-size / (1 - np.abs(lam)), kind="stable")[:modes])
    return _take(params, kept)


METHODS: dict[str, Callable[..., dict[str, np.ndarray]]] = {
    "balanced": balanced_truncation,
    "modal": modal_truncation,
    "perturbation": singular_perturbation,
}


def pad_modes(params: Parameters, modes: int) -> dict[str, np.ndarray]:
    """Adds modes to an LRU that no output reads, so that its outputs stay the same.

    They repeat the modes that are there, with C = 0, so they can still learn.

    Args:
      params: the parameters of an `lru.LRU` of K modes.
      modes: the number of modes to return, at least K.
    """
    k = len(params["nu_log"])
    padded = _take(params, np.arange(modes) % k)
    for name in padded.keys() & {"C_re", "C_im", "C2_re", "C2_im"}:
        padded[name][:, k:] = 0
    return padded


def _take(params: Parameters, kept: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the parameters of some modes."""
    return {
        name: np.asarray(value)[..., kept] if name.startswith("C")
        else np.array(value) if name == "D"
        else np.asarray(value)[kept]
        for name, value in params.items()
    }  # fmt: skip


def _joint_modes(params: Parameters) -> Modes:
    """Returns the modes of an LRU, the outputs of both directions one above the other."""
    if set(params) - {"C2_re", "C2_im"} != _NAMES:
        raise ValueError(
            f"the parameters are {', '.join(params)}; expected those of an lru.LRU: "
            f"{', '.join(sorted(_NAMES))}"
        )
    directions = modes_of(lru_directions, params)
    out = np.concatenate([direction.out for direction in directions])
    return Modes(directions[0].lam, directions[0].into, out)


def _check(modes: int, most: int) -> None:
    if not 1 <= modes <= most:
        raise ValueError(f"modes={modes}; expected 1 to {most}, the number of modes of the layer")


def _reduced(
    params: Parameters, modes: int, cut: Callable[[Balanced, int], Balanced], moments: Any
) -> dict[str, np.ndarray]:
    whole = _joint_modes(params)
    _check(modes, len(whole.lam))
    system = balance(whole, moments)
    order = min(2 * modes, len(system.sigma))
    # A real eigenvalue takes a whole mode. One on the circle can only come from rounding.
    while len((found := diagonalize(cut(system, order))).lam) > modes or _unstable(found):
        order -= 1
    return pad_modes(_parameters(found, params), modes)


def _unstable(modes: Modes) -> bool:
    return bool(np.abs(modes.lam).max() >= 1)


def _parameters(modes: Modes, params: Parameters) -> dict[str, np.ndarray]:
    """Returns modes with phases in [0, pi] as parameters, with the types and the D of others."""
    nu, theta = -np.log(np.abs(modes.lam)), np.angle(modes.lam)
    # exp(theta_log) cannot be 0: a phase far below the mode's bandwidth changes nothing.
    theta = np.maximum(theta, np.finfo(np.float32).eps * nu)
    gamma = np.sqrt(-np.expm1(-2 * nu))
    into = modes.into / gamma[:, None]
    # The product of B_i and C_i is given: share it equally.
    ratio = np.sqrt(np.linalg.norm(modes.out, axis=0) / np.linalg.norm(into, axis=1))
    b, out = into * ratio[:, None], modes.out / ratio
    found = {"nu_log": np.log(nu), "theta_log": np.log(theta), "gamma_log": np.log(gamma),
             "B_re": b.real, "B_im": b.imag, "D": params["D"]}  # fmt: skip
    names = readouts("C2_re" in params)
    for name, c in zip(names, np.split(out, len(names))):
        found |= {f"{name}_re": c.real, f"{name}_im": c.imag}
    return {name: np.asarray(found[name], np.asarray(params[name]).dtype) for name in params}
