"""The eigenvalues of the Linear Recurrent Units in a model, and a picture of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lru.linear import eigenvalues


def model_eigenvalues(params: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The eigenvalues `(N,)`, complex, of every LRU in a tree of parameters, by its path.

    Example:
      >>> import jax.numpy as jnp
      >>> layer = {"nu_log": jnp.zeros(3), "theta_log": jnp.zeros(3)}
      >>> list(model_eigenvalues({"blocks_0": {"mixer": layer}, "head": {}}))
      ['blocks_0/mixer']
    """
    if "nu_log" in params and "theta_log" in params:
        return {prefix: np.asarray(eigenvalues(params))}
    found: dict[str, np.ndarray] = {}
    for name, child in params.items():
        if isinstance(child, Mapping):
            found |= model_eigenvalues(child, f"{prefix}/{name}".lstrip("/"))
    return found


def plot_eigenvalues(axis: Any, lam: np.ndarray, initial: np.ndarray | None = None) -> Any:
    """Draws eigenvalues on the unit disk, and in grey where each of them began.

    Args:
      axis: a Matplotlib axis.
      lam: `(N,)` complex.
      initial: `(N,)` complex, or None.

    Returns:
      The axis.
    """
    angle = np.linspace(0, 2 * np.pi, 361)
    axis.plot(np.cos(angle), np.sin(angle), color="0.6", linewidth=0.8)
    if initial is not None:
        paths = np.stack([initial, lam])
        axis.plot(paths.real, paths.imag, color="0.75", linewidth=0.6, zorder=1)
        axis.scatter(
            initial.real, initial.imag, s=14, facecolors="none", edgecolors="0.6",
            linewidths=0.7, label="initial",
        )  # fmt: skip
    axis.scatter(lam.real, lam.imag, s=7, color="#0b3c8c", label="trained")
    axis.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    axis.set_aspect("equal")
    return axis
