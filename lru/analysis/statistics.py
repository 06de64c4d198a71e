"""How eigenvalues lie: moduli, frequencies, time scales, and the laws that they are drawn by."""

from __future__ import annotations

import math

import numpy as np


def time_scales(lam: np.ndarray) -> np.ndarray:
    """-1 / log|lambda|, in steps: how long a mode takes to fall to 1/e.

    Infinite on the unit circle and outside of it.

    Example:
      >>> time_scales(np.exp([-0.1, -0.01 + 2j, 1j])).round(6).tolist()
      [10.0, 100.0, inf]
    """
    modulus = np.abs(lam)
    with np.errstate(divide="ignore"):
        return np.where(modulus < 1, -1 / np.log(np.minimum(modulus, 1)), np.inf)


def frequencies(lam: np.ndarray) -> np.ndarray:
    """|arg lambda| in [0, pi], in radians a step.

    The sign is left out: outputs are real parts, which a mode and its conjugate give alike.

    Example:
      >>> frequencies(np.exp(1j * np.array([-0.5, 0.5, 2 * np.pi - 0.5]))).round(6).tolist()
      [0.5, 0.5, 0.5]
    """
    return np.abs(np.angle(lam))


def fractions(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The part of the values in each of the bins between edges; what is outside is in the last.

    Args:
      values: `(N,)`.
      edges: `(K + 1,)`, increasing.

    Returns:
      `(K,)`, which sum to one.

    Example:
      >>> fractions(np.array([0.1, 0.2, 0.9, 7.0]), np.array([0.0, 0.5, 1.0])).tolist()
      [0.5, 0.5]
    """
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return counts / max(len(values), 1)


def ring_fractions(edges: np.ndarray, r_min: float = 0.0, r_max: float = 1.0) -> np.ndarray:
    """The part of moduli in each bin, of eigenvalues uniform in area on a ring of the unit disk.

    By F(r) = (r^2 - r_min^2) / (r_max^2 - r_min^2), Lemma 3.2 of Orvieto et al. (2023). The whole
    disk is the limit of large Glorot matrices: the circular law, Theorem 3.1.

    Raises:
      ValueError: if r_min is not below r_max.

    Example:
      >>> ring_fractions(np.array([0.0, 0.5, 1.0])).tolist()
      [0.25, 0.75]
    """
    below = (np.square(edges) - r_min**2) / _ring_area(r_min, r_max)
    return np.diff(np.clip(below, 0, 1))


def ring_density(modulus: np.ndarray, r_min: float = 0.0, r_max: float = 1.0) -> np.ndarray:
    """p(r) = 2 r / (r_max^2 - r_min^2) on the ring, 0 elsewhere: the slope of Lemma 3.2's F.

    Raises:
      ValueError: if r_min is not below r_max.

    Example:
      >>> ring_density(np.array([0.5, 1.5])).tolist()
      [1.0, 0.0]
    """
    inside = (r_min <= modulus) & (modulus <= r_max)
    return np.where(inside, 2 * modulus / _ring_area(r_min, r_max), 0.0)


def _ring_area(r_min: float, r_max: float) -> float:
    """Over pi."""
    if not r_min < r_max:
        raise ValueError(f"the ring is from {r_min} to {r_max}; expected r_min below r_max")
    return r_max**2 - r_min**2


def phase_density(frequency: np.ndarray, max_phase: float = 2 * math.pi) -> np.ndarray:
    """The density of |arg lambda| in [0, pi], of phases uniform on [0, max_phase].

    Beyond pi a phase folds back: 1 / max_phase once for each phase that has this frequency.

    Example:
      >>> (np.pi * phase_density(np.array([0.5, 3.0]))).round(6).tolist()
      [1.0, 1.0]
    """
    folded = np.stack([frequency, 2 * math.pi - frequency])
    return np.sum(folded <= max_phase, axis=0) / max_phase


def glorot_eigenvalues(rng: np.random.Generator, n: int) -> np.ndarray:
    """The eigenvalues `(n,)` of a real Gaussian matrix of variance 1/n: Figure 2 of the paper.

    Uniform on the unit disk in the limit (Theorem 3.1); a few of a finite matrix are outside.

    Example:
      >>> lam = glorot_eigenvalues(np.random.default_rng(0), 300)
      >>> bool(np.abs(lam).max() < 1.15)
      True
    """
    return np.linalg.eigvals(rng.normal(scale=n**-0.5, size=(n, n)))
