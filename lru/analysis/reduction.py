"""Model reduction of trained LRUs: nearly the same outputs from fewer modes.

A trained LRU is a linear system. The Hankel singular values measure how much each state of its
balanced realization contributes to the mapping from inputs to outputs. Three reductions are
available. Each returns the parameters of an LRU with K modes instead of N, named as in Appendix A
of Orvieto et al. (2023):

balanced truncation     drops the states with the smallest Hankel singular values
singular perturbation   drops such states, but keeps the steady state for some constant inputs
modal truncation        drops the modes with the smallest gains

Forgione, Mejari & Piga (2024), "Model order reduction of deep structured state-space models: A
system-theoretic approach", reduce trained LRUs in these ways, and regularize training so that the
reduction loses less. Chahine et al. (2026), "The Curious Case of In-Training Compression of State
Space Models" (CompreSSM), truncate during training. This module balances the real system of 2N
states; see `lru.analysis.balancing`.

A bidirectional layer has one Lambda and one B for both directions, so both directions are reduced
together, as one system with the output matrix [C; C2].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lru.analysis.balancing import Balanced, balance, diagonalize, perturb, truncate
from lru.layers.linear import lru_directions
from lru.layers.state_space import Modes, modes_of, readouts

__all__ = [
    "METHODS", "balanced_truncation", "enough_modes", "find_lrus", "hankel_singular_values",
    "modal_truncation", "model_hankel_singular_values", "pad_modes", "singular_perturbation",
]  # fmt: skip

Parameters = Mapping[str, Any]
_NAMES = {"nu_log", "theta_log", "gamma_log", "B_re", "B_im", "C_re", "C_im", "D"}


def hankel_singular_values(params: Parameters, moments: Any = None) -> np.ndarray:
    """Returns the Hankel singular values of an LRU, `(2N,)`, in decreasing order.

    They are the square roots of the eigenvalues of P Q, where P and Q are the Gramians of the real
    system of 2N states, two for each mode; see `lru.analysis.balancing`. If balanced truncation
    keeps the first n states, the H-infinity norm of its error is at most twice the sum of the
    other values. For a bidirectional layer, this bound holds for the system with the output matrix
    [C; C2]. The layer adds the outputs of its two directions, so its bound is sqrt(2) times this.

    Args:
      params: the parameters of an `lru.LRU`.
      moments: the second moments E[s s^T] of the layer's states s = [Re h, Im h] for certain
        inputs, `(2N, 2N)`; for two directions, their mean. None for white noise. Moments take the
        place of P, and the bound does not hold for them.

    Raises:
      ValueError: if `params` are not those of an `lru.LRU`, or not finite; if an eigenvalue is not
        inside the unit disk; or if the inputs have no effect on the outputs through the state.

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
    """Returns the Hankel singular values of the LRUs that `find_lrus` returns, by path."""
    return {path: hankel_singular_values(layer) for path, layer in find_lrus(params).items()}


def find_lrus(params: Parameters, prefix: str = "") -> dict[str, Parameters]:
    """Returns the parameters of every LRU in a tree of parameters, by path.

    The parameters of several layers stacked by `nn.scan` are left out.

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
    """Returns the number of modes that balanced truncation needs to satisfy one of two conditions.

    This is the number of modes of the truncated system with the fewest states that satisfies the
    condition.

    Args:
      params: the parameters of an `lru.LRU`.
      energy: the least share of the sum of all Hankel singular values to keep, in (0, 1].
      tolerance: a positive upper bound on the H-infinity norm of the error, relative to that of the
        whole system; `hankel_singular_values` defines the system. For n states, the condition is
        2 (sigma_{n+1} + ... + sigma_2N) <= tolerance sigma_1, which suffices because sigma_1 is at
        most the H-infinity norm of the system. The error is often ten times smaller than the bound.
        `tolerance` cannot be combined with `moments`, for which there is no bound.
      moments: see `hankel_singular_values`.

    Raises:
      ValueError: unless exactly one of `energy` and `tolerance` is given, and is in its range; if
        `moments` are given with `tolerance`; see also `hankel_singular_values`.

    Example:
      >>> import jax, jax.numpy as jnp, lru
      >>> variables = jax.jit(lru.LRU(64).init)(jax.random.key(0), jnp.ones((8, 2)))
      >>> 16 < enough_modes(variables["params"], energy=0.99) < 32
      True
    """
    if (energy is None) == (tolerance is None):
        raise ValueError(f"energy={energy} and tolerance={tolerance}; expected exactly one of them")
    if energy is not None and not 0 < energy <= 1:
        raise ValueError(f"energy={energy}; expected more than 0 and at most 1")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance={tolerance}; expected a positive number")
    if tolerance is not None and moments is not None:
        raise ValueError(
            "tolerance needs white inputs, because there is no bound on the error for measured "
            "inputs; give energy, or use white inputs"
        )
    system = balance(_joint_modes(params), moments)
    dropped = np.append(np.cumsum(system.sigma[::-1])[::-1], 0)  # the sum after the first n
    most = (1 - energy) * dropped[0] if energy else (tolerance or 0) * system.sigma[0] / 2
    order = max(int(np.argmax(dropped <= most)), 1)
    return len(diagonalize(truncate(system, order)).lam)


def balanced_truncation(
    params: Parameters, modes: int, moments: Any = None
) -> dict[str, np.ndarray]:
    """Reduces an LRU to K modes by balanced truncation.

    Balances the layer's real system of 2N states, keeps the first states, and diagonalizes the
    result; see `lru.analysis.balancing`. All eigenvalues of the result are inside the unit disk. A
    conjugate pair of eigenvalues takes one mode, and so does a real eigenvalue. Therefore at most
    2K states are kept, and fewer if some eigenvalues are real.

    Args:
      params: the parameters of an `lru.LRU` with one or two directions.
      modes: K, at most N.
      moments: the second moments of the states, for inputs for which the error should be small;
        see `hankel_singular_values`.

    Returns:
      The parameters of the layer with `d_state=K`, with the types of `params`. gamma is
      sqrt(1 - |lambda|^2), its initial value in `lru.LRU`. Each mode's row of B and its column of C
      (of [C; C2] for two directions) have the same norm, except that unused modes have C = 0.

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

    The dropped states are replaced by their values at rest; see `lru.analysis.balancing.perturb`.
    For constant inputs in up to K directions (fewer if some eigenvalues are real), the steady-state
    response is that of the whole layer. If at least 2H states are kept, these are all directions.
    In other directions, the steady-state error is usually smaller than that of balanced truncation.
    At high frequencies, balanced truncation usually has the smaller error. For the arguments and
    the result, see `balanced_truncation`.
    """
    return _reduced(params, modes, perturb, moments)


def modal_truncation(params: Parameters, modes: int, moments: Any = None) -> dict[str, np.ndarray]:
    """Reduces an LRU to the K modes with the largest gains, without changing these modes.

    The gain of a mode at its own frequency is |C_i| |B_i| / (1 - |lambda_i|), where B includes
    gamma. The H-infinity norm of the error is at most the sum of the dropped gains, or sqrt(2)
    times this sum for a bidirectional layer. With moments, the root mean square of C_i h_i takes
    the place of the gain, and there is no bound. For the arguments and the result, see
    `balanced_truncation`; unlike there, the gamma, B and C of the kept modes do not change.
    """
    lam, into, out = _joint_modes(params)
    _check(modes, len(lam))
    if moments is None:
        size = np.linalg.norm(into, axis=1) / (1 - np.abs(lam))
    else:
        size = np.sqrt(np.diag(moments).reshape(2, -1).sum(0))
    kept = np.sort(np.argsort(-size * np.linalg.norm(out, axis=0), kind="stable")[:modes])
    return _take(params, kept)


METHODS: dict[str, Callable[..., dict[str, np.ndarray]]] = {
    "balanced": balanced_truncation,
    "modal": modal_truncation,
    "perturbation": singular_perturbation,
}


def pad_modes(params: Parameters, modes: int) -> dict[str, np.ndarray]:
    """Returns the parameters of an LRU with added modes, which do not change the outputs.

    The new modes are copies of existing modes, but with C = 0, and C2 = 0 in a bidirectional layer.
    Training can make both nonzero.

    Args:
      params: the parameters of an `lru.LRU` of K modes.
      modes: the number of modes of the result, at least K.
    """
    k = len(params["nu_log"])
    padded = _take(params, np.arange(modes) % k)
    for name in padded.keys() & {"C_re", "C_im", "C2_re", "C2_im"}:
        padded[name][:, k:] = 0
    return padded


def _take(params: Parameters, kept: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the parameters of the modes with the given indices, and D."""
    return {
        name: np.asarray(value)[..., kept] if name.startswith("C")
        else np.array(value) if name == "D"
        else np.asarray(value)[kept]
        for name, value in params.items()
    }  # fmt: skip


def _joint_modes(params: Parameters) -> Modes:
    """Returns the modes of an LRU, with C and C2 of a bidirectional layer stacked as one `out`."""
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
        raise ValueError(
            f"modes={modes}; expected a whole number from 1 to {most}, the number of modes of the "
            "layer"
        )


def _reduced(
    params: Parameters, modes: int, cut: Callable[[Balanced, int], Balanced], moments: Any
) -> dict[str, np.ndarray]:
    whole = _joint_modes(params)
    _check(modes, len(whole.lam))
    system = balance(whole, moments)
    order = min(2 * modes, len(system.sigma))
    # A real eigenvalue takes a whole mode. Only rounding can put an eigenvalue on or outside the
    # unit circle.
    while len((found := diagonalize(cut(system, order))).lam) > modes or _unstable(found):
        order -= 1
    return pad_modes(_parameters(found, params), modes)


def _unstable(modes: Modes) -> bool:
    return bool(np.abs(modes.lam).max() >= 1)


def _parameters(modes: Modes, params: Parameters) -> dict[str, np.ndarray]:
    """Converts modes with phases in [0, pi] to parameters, with D and the types of `params`."""
    nu, theta = -np.log(np.abs(modes.lam)), np.angle(modes.lam)
    # exp(theta_log) cannot be 0. A phase far below the mode's bandwidth has the same effect as 0.
    theta = np.maximum(theta, np.finfo(np.float32).eps * nu)
    gamma = np.sqrt(-np.expm1(-2 * nu))
    into = modes.into / gamma[:, None]
    # Only the product of B_i and C_i matters, so give both the same norm.
    ratio = np.sqrt(np.linalg.norm(modes.out, axis=0) / np.linalg.norm(into, axis=1))
    b, out = into * ratio[:, None], modes.out / ratio
    found = {"nu_log": np.log(nu), "theta_log": np.log(theta), "gamma_log": np.log(gamma),
             "B_re": b.real, "B_im": b.imag, "D": params["D"]}  # fmt: skip
    names = readouts("C2_re" in params)
    for name, c in zip(names, np.split(out, len(names))):
        found |= {f"{name}_re": c.real, f"{name}_im": c.imag}
    return {name: np.asarray(found[name], np.asarray(params[name]).dtype) for name in params}
