"""Statistics of eigenvalues: frequencies, time scales, histograms and initial distributions."""

from __future__ import annotations

import math

import numpy as np


def time_scales(lam: np.ndarray) -> np.ndarray:
    """Returns -1 / log|lambda|, the number of steps in which a mode decays to 1/e.

    The time scale is infinite on and outside the unit circle.

    Example:
      >>> time_scales(np.exp([-0.1, -0.01 + 2j, 1j])).round(6).tolist()
      [10.0, 100.0, inf]
    """
    modulus = np.abs(lam)
    with np.errstate(divide="ignore"):
        return np.where(modulus < 1, -1 / np.log(np.minimum(modulus, 1)), np.inf)


def frequencies(lam: np.ndarray) -> np.ndarray:
    """Returns |arg lambda| in [0, pi], in radians per step.

    The sign of the argument has no meaning: outputs are real parts, so a mode and its conjugate can
    give the same outputs.

    Example:
      >>> frequencies(np.exp(1j * np.array([-0.5, 0.5, 2 * np.pi - 0.5]))).round(6).tolist()
      [0.5, 0.5, 0.5]
    """
    return np.abs(np.angle(lam))


def fractions(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns the fraction of the values in each bin between edges.

    Values outside the edges are counted in the nearest bin.

    Args:
      values: the values to count, `(N,)`.
      edges: the edges of K bins, `(K + 1,)`, increasing.

    Returns:
      The fractions, `(K,)`; zero if there are no values.

    Example:
      >>> fractions(np.array([0.1, 0.2, 0.9, 7.0]), np.array([0.0, 0.5, 1.0])).tolist()
      [0.5, 0.5]
    """
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return counts / max(len(values), 1)


def ring_fractions(edges: np.ndarray, r_min: float = 0.0, r_max: float = 1.0) -> np.ndarray:
    """Returns the expected fraction of moduli in each bin, for eigenvalues uniform on a ring.

    The eigenvalues are uniform in area. The distribution function of their moduli is therefore
    F(r) = (r^2 - r_min^2) / (r_max^2 - r_min^2), by Lemma 3.2 of Orvieto et al. (2023). On the
    whole unit disk, this is the limiting distribution for large Glorot matrices: the circular law,
    Theorem 3.1.

    Raises:
      ValueError: if r_min is not below r_max.

    Example:
      >>> ring_fractions(np.array([0.0, 0.5, 1.0])).tolist()
      [0.25, 0.75]
    """
    cumulative = (np.square(edges) - r_min**2) / _ring_area(r_min, r_max)
    return np.diff(np.clip(cumulative, 0, 1))


def ring_density(modulus: np.ndarray, r_min: float = 0.0, r_max: float = 1.0) -> np.ndarray:
    """Returns the density p(r) of the moduli r of eigenvalues uniform in area on a ring.

    By Lemma 3.2 of Orvieto et al. (2023), p(r) = 2 r / (r_max^2 - r_min^2) on the ring. Elsewhere,
    p(r) = 0.

    Raises:
      ValueError: if r_min is not below r_max.

    Example:
      >>> ring_density(np.array([0.5, 1.5])).tolist()
      [1.0, 0.0]
    """
    inside = (r_min <= modulus) & (modulus <= r_max)
    return np.where(inside, 2 * modulus / _ring_area(r_min, r_max), 0.0)


def _ring_area(r_min: float, r_max: float) -> float:
    """Returns the area of a ring, divided by pi; raises a ValueError unless r_min < r_max."""
    if not r_min < r_max:
        raise ValueError(f"r_min={r_min}, r_max={r_max}; expected r_min < r_max")
    return r_max**2 - r_min**2


def phase_density(frequency: np.ndarray, max_phase: float = 2 * math.pi) -> np.ndarray:
    """Returns the density of |arg lambda| in [0, pi] for phases uniform on [0, max_phase].

    The phases theta and 2 pi - theta have the same |arg lambda|. Each of the two that is in
    [0, max_phase] contributes 1 / max_phase. `max_phase` must be at most 2 pi.

    Example:
      >>> (np.pi * phase_density(np.array([0.5, 3.0]))).round(6).tolist()
      [1.0, 1.0]
    """
    folded = np.stack([frequency, 2 * math.pi - frequency])
    return np.sum(folded <= max_phase, axis=0) / max_phase


def glorot_eigenvalues(rng: np.random.Generator, n: int) -> np.ndarray:
    """Returns the eigenvalues `(n,)` of a real Gaussian matrix with entries of variance 1/n.

    In the limit of large n, they are uniform on the unit disk: Theorem 3.1 and Figure 2 of Orvieto
    et al. (2023). A finite matrix may have a few eigenvalues outside the disk.

    Example:
      >>> lam = glorot_eigenvalues(np.random.default_rng(0), 300)
      >>> bool(np.abs(lam).max() < 1.15)
      True
    """
    return np.linalg.eigvals(rng.normal(scale=n**-0.5, size=(n, n)))
