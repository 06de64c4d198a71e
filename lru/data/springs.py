"""Simulates a driven mass on a spring, as arrays with each kind of target.

The mass is 1, its position is q, and a random force u drives it:

    q'' = u - c q' - k s(q)

where c is the damping, k the stiffness, and s the shape of the spring: s(q) = tanh(q) for a
softening spring, q for a linear one, and q + q^3 for a hardening one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

EXAMPLES = ("motion", "stiffness", "shape", "switching")
_DT, _SUBSTEPS, _DAMPING, _NOISE, _HOLD = 0.3, 6, 0.3, 0.02, 8
_SHAPES: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    np.tanh, lambda q: q, lambda q: q + q**3,
)  # fmt: skip


def spring_arrays(example: str, number: int, steps: int, seed: int) -> dict[str, np.ndarray]:
    """Returns the arrays `x`, `y` and `lengths` of one of `EXAMPLES`; positions have noise.

    Args:
      example: "motion": the force at every step is given, and the position at every step is the
        target, real numbers `(n, T)`, for a hardening spring. "stiffness": force and position are
        given, and k is the target, real numbers `(n,)`. "shape": force and position are given, and
        the shape s is the target, classes `(n,)`: 0 softening, 1 linear, 2 hardening; k is random.
        "switching": force and position are given, and at every step the target is whether k is 1
        (class 0) or 3 (class 1), `(n, T)`; k switches at random times.
      number: n, the number of sequences.
      steps: T, the maximum number of steps; `lengths` are drawn from about T / 2 to T.
      seed: the seed of everything random.

    Example:
      >>> arrays = spring_arrays("stiffness", number=4, steps=50, seed=0)
      >>> {name: array.shape for name, array in arrays.items()}
      {'x': (4, 50, 2), 'y': (4,), 'lengths': (4,)}
    """
    rng = np.random.default_rng([seed, EXAMPLES.index(example)])
    force = rng.normal(size=(number, -(-steps // _HOLD))).repeat(_HOLD, axis=1)[:, :steps]
    lengths = rng.integers(-(-steps // 2), steps, number, endpoint=True)
    stiffness, shape = _draw(rng, example, number, steps)
    position = _simulate(force, stiffness, shape)
    position += _NOISE * rng.normal(size=position.shape)
    given = [force] if example == "motion" else [force, position]
    target = {
        "motion": position, "stiffness": stiffness[:, 0], "shape": shape,
        "switching": (stiffness > 2).astype(int),
    }[example]  # fmt: skip
    return {"x": np.stack(given, axis=-1), "y": target, "lengths": lengths}


def _draw(
    rng: np.random.Generator, example: str, number: int, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the stiffness at every step, `(n, T)`, and the index of the shape, `(n,)`."""
    shape = np.full(number, 2 if example == "motion" else 1)
    stiffness = np.ones((number, steps))
    if example == "stiffness":
        stiffness *= rng.uniform(0.5, 3, (number, 1))
    elif example == "shape":
        shape = rng.integers(3, size=number)
        stiffness *= rng.uniform(0.5, 3, (number, 1))
    elif example == "switching":
        switches = rng.random((number, steps)) < 1 / 40
        state = (rng.integers(2, size=(number, 1)) + switches.cumsum(axis=1)) % 2
        stiffness += 2 * state
    return stiffness, shape


def _simulate(force: np.ndarray, stiffness: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Returns the position at the end of every step, `(n, T)`, by the leapfrog method."""
    position, velocity, found = np.zeros(len(force)), np.zeros(len(force)), []
    dt = _DT / _SUBSTEPS

    def half_kick(u, k):
        s = np.choose(shape, [function(position) for function in _SHAPES])
        return dt / 2 * (u - _DAMPING * velocity - k * s)

    for u, k in zip(force.T, stiffness.T):
        for _ in range(_SUBSTEPS):
            velocity = velocity + half_kick(u, k)
            position = position + dt * velocity
            velocity = velocity + half_kick(u, k)
        found.append(position)
    return np.stack(found, axis=1)
