"""Balanced realizations of layers of independent modes, in double precision.

The layer h_k = Lambda h_{k-1} + B u_k, y_k = Re[C h_k] is a real linear system. Its 2N states are
the real and imaginary parts of h, s = [Re h, Im h]:

    s_k = A s_{k-1} + B' u_k,   y_k = C' s_k           A (2N, 2N), B' (2N, H), C' = [Re C, -Im C]

This real system is reduced, not the complex system of N states with the outputs C h, because the
layer drops the imaginary parts of C h, and a mode and the conjugate of another mode may give nearly
the same real parts.

By default, the inputs are taken to be white noise, with the same variance in all directions of u.
The actual inputs of a layer may lie in a few directions, and change slowly. If the second moments
E[s s^T] of the states for such inputs are given, they take the place of the controllability Gramian
(Moore, 1981; Lall, Marsden & Glavaski, 2002, call them an empirical Gramian).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lru.layers.state_space import Modes

_FLOOR = 1e-13  # Hankel singular values below this share of the largest are rounding errors
_LEAST_MOMENT = 1e-8  # as a share of the largest, so that no direction of s is lost


class Balanced(NamedTuple):
    """A real system balanced by `balance`, or its reduction by `truncate` or `perturb`.

    Attributes:
      a, b, c: the real matrices, `(n, n)`, `(n, H)` and `(outputs, n)`. Before a reduction, n is 2N
        minus the number of Hankel singular values that are zero up to rounding.
      sigma: the Hankel singular values that `balance` found for the n states, `(n,)`, in decreasing
        order.
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    sigma: np.ndarray


def gramian(lam: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the Gramian of [Re h, Im h], `(2N, 2N)`, in closed form.

    For `rows` = B, it is the covariance of the stationary state if the inputs are white noise of
    unit variance. With the rows b_i of B,

        E[h h*]_ij  = b_i b_j* / (1 - lambda_i conj(lambda_j))
        E[h h^T]_ij = b_i b_j^T / (1 - lambda_i lambda_j)

    The real and imaginary parts of these two matrices are sums and differences of the covariances
    and cross-covariances of Re h and Im h.

    Args:
      lam: eigenvalues inside the unit disk, `(N,)`.
      rows: B, `(N, H)`, for the controllability Gramian; or the transpose of C for the
        observability Gramian, up to the signs of the off-diagonal blocks (see `balance`).

    Example:
      >>> np.diag(gramian(np.array([0.6j]), np.array([[1.0]]))).round(4).tolist()
      [1.1489, 0.4136]
    """
    hermitian = (rows @ rows.conj().T) / (1 - lam[:, None] * lam.conj())
    symmetric = (rows @ rows.T) / (1 - lam[:, None] * lam)
    plus, minus = hermitian + symmetric, hermitian - symmetric
    return np.block([[plus.real, -minus.imag], [plus.imag, minus.real]]) / 2


def balance(modes: Modes, moments: np.ndarray | None = None) -> Balanced:
    """Balances the real system of 2N states by the square-root method.

    The controllability Gramian is P = R R^T, and the observability Gramian is Q = L L^T. With the
    singular value decomposition L^T R = U diag(sigma) V^T, the projections sigma^(-1/2) U^T L^T and
    R V sigma^(-1/2) make both Gramians diag(sigma) (Tombs & Postlethwaite, 1987). States with a
    sigma of zero, up to rounding, are left out.

    Args:
      modes: the modes of a layer other than S4D; `out` may stack the output matrices of two
        directions.
      moments: the second moments E[s s^T] of the states, `(2N, 2N)`; None for white noise.

    Raises:
      ValueError: if an eigenvalue is not inside the unit disk, a value is not finite, `moments`
        has another shape, or the outputs do not depend on the inputs.
    """
    lam, into, out = modes
    if not all(np.isfinite(x).all() for x in modes) or np.abs(lam).max() >= 1:
        raise ValueError(
            f"the largest |lambda| is {np.abs(lam).max()}; expected finite parameters, and "
            "eigenvalues inside the unit disk"
        )
    a = np.block([[np.diag(lam.real), -np.diag(lam.imag)], [np.diag(lam.imag), np.diag(lam.real)]])
    b, c = np.concatenate([into.real, into.imag]), np.hstack([out.real, -out.imag])
    sign = np.repeat([1, -1], len(lam))
    r = _root(gramian(lam, into)) if moments is None else _moment_root(moments, len(a))
    l_ = _root(gramian(lam, out.T) * np.outer(sign, sign))
    u, sigma, vh = np.linalg.svd(l_.T @ r)
    if not sigma[0] > 0:
        raise ValueError(
            "the outputs do not depend on the inputs, because B, C or the inputs are zero; "
            "expected nonzero ones"
        )
    n = np.count_nonzero(sigma > _FLOOR * sigma[0])
    scale = np.sqrt(sigma[:n])
    left, right = (l_ @ u[:, :n] / scale).T, r @ vh[:n].T / scale
    return Balanced(left @ a @ right, left @ b, c @ right, sigma[:n])


def _moment_root(moments: np.ndarray, size: int) -> np.ndarray:
    """Returns the root of second moments of states, after checking them."""
    if np.shape(moments) != (size, size) or not np.isfinite(moments).all():
        raise ValueError(
            f"moments has shape {np.shape(moments)}; expected finite second moments of the states "
            f"[Re h, Im h], of shape {(size, size)}"
        )
    # For states of unit size, so that the result does not depend on how B and C share a scale.
    scale = np.sqrt(np.diag(moments))
    scale = np.where(scale > 0, scale, 1)
    return scale[:, None] * _root(moments / np.outer(scale, scale), _LEAST_MOMENT)


def _root(gram: np.ndarray, least: float = 0) -> np.ndarray:
    """Returns R with R R^T = gram; unlike in a Cholesky factorization, gram may be singular.

    Eigenvalues below `least` times the largest are raised to this bound first.
    """
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    return vectors * np.sqrt(np.maximum(values, least * values[-1]))


def truncate(system: Balanced, order: int) -> Balanced:
    """Keeps the first `order` states and drops the others: balanced truncation (Moore, 1981).

    In the H-infinity norm, the error of the transfer function G is at most twice the sum of the
    dropped sigma (Enns, 1984; Glover, 1984), unless second moments of the states were given to
    `balance`. The theorem is for outputs that read s_{k-1}, while those of a layer read s_k. This
    multiplies the transfer functions of the whole and of the truncated system by z, which does not
    change the norm of their difference.
    """
    a, b, c, sigma = system
    return Balanced(a[:order, :order], b[:order], c[:, :order], sigma[:order])


def perturb(system: Balanced, order: int) -> Balanced:
    """Keeps the first `order` states s1 and puts the others, s2, at rest: singular perturbation.

    The dropped states at rest, s2 = A21 s1 + A22 s2 + B2 u, are eliminated from the equation of the
    kept states (Liu & Anderson, 1989):

        A = A11 + A12 (I - A22)^-1 A21,   B = B1 + A12 (I - A22)^-1 B2

    With a constant input u, the kept states then come to rest at X1 u, as in the whole system. The
    dropped states of the whole system come to rest at X2 u. The textbook's output equation would
    need a full matrix D, but the layer's D is diagonal. Therefore C = C1 + C2 M, where M maps X1 u
    to X2 u for `order // 2` directions of u (at least one, and at most all). They are the
    directions to which the kept states respond most. For more directions, the problem would be
    badly conditioned.
    """
    a, b, c, sigma = system
    kept, dropped = slice(order), slice(order, None)
    inner = np.eye(len(a) - order) - a[dropped, dropped]
    eliminated = a[kept, dropped] @ np.linalg.solve(
        inner, np.hstack([a[dropped, kept], b[dropped]])
    )
    rest = np.linalg.solve(np.eye(len(a)) - a, b)
    scale = np.sqrt(sigma[kept, None])  # so that every kept state has the same size
    u, s, vh = np.linalg.svd(rest[kept] / scale, full_matrices=False)
    n = min(b.shape[1], max(order // 2, 1))
    matched = (rest[dropped] @ vh[:n].T / s[:n]) @ u[:, :n].T / scale.T
    return Balanced(
        a[kept, kept] + eliminated[:, :order],
        b[kept] + eliminated[:, order:],
        c[:, kept] + c[:, dropped] @ matched,
        sigma[kept],
    )


def diagonalize(system: Balanced) -> Modes:
    """Returns the modes of a real system, one for each conjugate pair or real eigenvalue.

    All phases are in [0, pi]. For a pair, `out` is doubled, because the outputs of the pair are
    twice the real part of the outputs of one of its modes.
    """
    lam, vectors = np.linalg.eig(system.a)
    into, out = np.linalg.solve(vectors, system.b.astype(vectors.dtype)), system.c @ vectors
    upper = lam.imag >= 0
    pair = np.where(lam.imag > 0, 2.0, 1.0)
    return Modes(lam[upper], into[upper], (out * pair)[:, upper])
