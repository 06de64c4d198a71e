"""The response of modes to inputs: impulse responses and gains."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lru.analysis.modes import Modes


def impulse_response(
    modes: Modes, steps: np.ndarray, outputs: Any = slice(None), inputs: Any = slice(None)
) -> np.ndarray:
    """Returns K_k = Re[C Lambda^k B], the outputs k steps after an impulse in each input.

    The skip term D, which adds to K_0, is left out.

    Args:
      modes: the modes of one direction of a layer other than S4D, whose channels do not mix.
      steps: the values of k, `(steps,)`.
      outputs, inputs: slices or arrays with the indices of the channels to compute. A long response
        of all channels, `(steps, H, H)`, takes much memory.

    Returns:
      The responses, `(steps, outputs, inputs)`.

    Example:
      >>> modes = Modes(np.array([0.5]), np.array([[4.0]]), np.array([[1.0]]))
      >>> impulse_response(modes, np.arange(4)).ravel().tolist()
      [4.0, 2.0, 1.0, 0.5]
    """
    powers = _powers(modes, steps)
    return np.einsum("on,kn,ni->koi", modes.out[outputs], powers, modes.into[:, inputs]).real


def impulse_norm(modes: Modes, steps: np.ndarray) -> np.ndarray:
    """Returns the Frobenius norm `(K,)` of Re[C Lambda^k B] over all channels, for steps k `(K,)`.

    For a layer other than S4D, let M = C P B, with the powers p on the diagonal of P. Then

        |Re M|^2 = (|M|^2 + Re tr M M^T) / 2

    |M|^2 and tr M M^T are quadratic forms in p: p* [(C* C) o (B B*)^T] p and
    p^T [(C^T C) o (B B^T)] p, where o is the elementwise product. The cost of a step is therefore
    proportional to N^2. For S4D, the norm is over the responses of the separate channels.
    """
    c, b, p = modes.out, modes.into, _powers(modes, steps)
    if modes.lam.ndim == 2:  # S4D: each channel has its own response
        return np.linalg.norm(np.sum(c * p * b, axis=-1).real, axis=-1)
    hermitian = (c.conj().T @ c) * (b @ b.conj().T).T
    symmetric = (c.T @ c) * (b @ b.T)
    square = np.sum((p.conj() @ hermitian) * p + (p @ symmetric) * p, axis=-1).real / 2
    return np.sqrt(np.maximum(square, 0))


class InputGains(NamedTuple):
    """The long-run |state| of each mode for inputs Bu of size one; each attribute is `(N,)`.

    Attributes:
      constant: gamma / |1 - lambda|, the gain for a constant input.
      resonant: gamma / (1 - |lambda|), the gain for an input at the mode's own frequency.
      noise: gamma / sqrt(1 - |lambda|^2), the root mean square for white noise.
    """

    constant: np.ndarray
    resonant: np.ndarray
    noise: np.ndarray


def input_gains(lam: np.ndarray, gamma: np.ndarray | float = 1.0) -> InputGains:
    """Returns the gains of modes with eigenvalues inside the unit disk.

    With the LRU's initial gamma = sqrt(1 - |lambda|^2), the gain for white noise is one (section
    3.4 of Orvieto et al. 2023). For a slow mode of small phase, the gain for a constant input is
    still far above one.

    Args:
      lam: eigenvalues `(N,)`.
      gamma: the factor of Bu, which is `np.exp(params["gamma_log"])` for an LRU.

    Example:
      >>> gains = input_gains(np.array([0.6]), np.array([0.8]))
      >>> [gain.round(6).tolist() for gain in gains]
      [[2.0], [2.0], [1.0]]
    """
    modulus = np.abs(lam)
    return InputGains(
        gamma / np.abs(1 - lam), gamma / (1 - modulus), gamma / np.sqrt(1 - modulus**2)
    )


def ring_gain(r_min: float, r_max: float) -> float:
    """Returns the long-run E|h|^2 / E|Bu|^2 of an LRU without gamma, for white noise as its input.

    The eigenvalues are uniform in area on the ring from r_min to r_max. By Proposition 3.3 of
    Orvieto et al. (2023), the ratio is log((1 - r_min^2) / (1 - r_max^2)) / (r_max^2 - r_min^2), or
    1 / (1 - r^2) on a circle of radius r. The LRU's initial gamma would make it 1.

    Example:
      >>> round(ring_gain(0.0, 0.9), 3), round(ring_gain(0.9, 0.9), 3)
      (2.05, 5.263)
    """
    if r_min == r_max:
        return 1 / (1 - r_max**2)
    return float(np.log((1 - r_min**2) / (1 - r_max**2)) / (r_max**2 - r_min**2))


def measured_gain(lam: np.ndarray, projected: np.ndarray) -> float:
    """Returns E|h|^2 / E|Bu|^2 over the second half of T steps h_k = lambda h_{k-1} + Bu_k.

    The state starts from zero. For a comparison with Proposition 3.3 of Orvieto et al. (2023),
    which holds in the long run, T must be much larger than the longest time scale.

    Args:
      lam: the eigenvalues, `(N,)`.
      projected: the projected inputs Bu, `(T, ..., N)`.
    """
    half, h, total = len(projected) // 2, np.zeros_like(projected[0]), 0.0
    for k, v in enumerate(projected):
        h = lam * h + v
        if k >= half:
            total += np.sum(np.abs(h) ** 2)
    return float(total / np.sum(np.abs(projected[half:]) ** 2))


def _powers(modes: Modes, steps: np.ndarray) -> np.ndarray:
    """Returns Lambda^k for K steps k: `(K, N)`; `(K, N/2)` for S5, `(K, H, N/2)` for S4D."""
    return modes.lam ** np.reshape(steps, (-1,) + (1,) * modes.lam.ndim)
