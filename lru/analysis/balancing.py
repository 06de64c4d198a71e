"""Balanced realizations of layers of independent modes, in double precision.

The layer h_k = Lambda h_{k-1} + B u_k, y_k = Re[C h_k] is a real system of 2N states, the real and
imaginary parts s = [Re h, Im h]:

    s_k = A s_{k-1} + B' u_k,   y_k = C' s_k           A (2N, 2N), B' (2N, H), C' = [Re C, -Im C]

This is the system to reduce. The complex system of N states has outputs C h, whose imaginary parts
nobody reads, and a mode and the conjugate of another one may give nearly the same real outputs.

Gramians are those of white noise, in which all directions of u have the same size. A layer's own
inputs may lie in a few directions. If their second moments E[u u^T] = S are given, the system with
B' S^(1/2) is balanced instead, whose inputs are white.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lru.layers.state_space import Modes

_FLOOR = 1e-13  # Hankel singular values below this share of the largest are rounding errors
_LEAST_MOMENT = 1e-4  # as a share of the largest, so no direction of the inputs is lost


class Balanced(NamedTuple):
    """A real system whose two Gramians are both diag(sigma); see `balance`.

    Attributes:
      a, b, c: real, `(n, n)`, `(n, H)`, `(outputs, n)`. n is 2N, less the states whose Hankel
        singular values are zero to rounding.
      sigma: the Hankel singular values of these states, `(n,)`, decreasing.
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    sigma: np.ndarray


def gramian(lam: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the Gramian of [Re h, Im h], `(2N, 2N)`, in closed form.

    It is the covariance of the state for white noise. With rows b_i of B,

        E[h h*]_ij  = b_i b_j* / (1 - lambda_i conj(lambda_j))
        E[h h^T]_ij = b_i b_j^T / (1 - lambda_i lambda_j)

    Their real and imaginary parts are sums and differences of the covariances of Re h and Im h.

    Args:
      lam: eigenvalues inside the unit disk, `(N,)`.
      rows: B for the controllability Gramian. C transposed gives the observability Gramian, up to
        the sign of the imaginary parts; see `balance`.

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

    With P = R R^T, Q = L L^T and the singular value decomposition L^T R = U diag(sigma) V^T, the
    projections sigma^(-1/2) U^T L^T and R V sigma^(-1/2) make both Gramians diag(sigma) (Tombs &
    Postlethwaite, 1987).

    Args:
      modes: one direction of a layer.
      moments: the second moments of the inputs, `(H, H)`; None for white noise.

    Raises:
      ValueError: if an eigenvalue is not inside the unit disk, a value is not finite, or the
        outputs do not depend on the inputs.
    """
    if moments is not None:
        root, inverse = input_roots(moments)
        a, b, c, sigma = balance(modes._replace(into=modes.into @ root))
        return Balanced(a, b @ inverse, c, sigma)
    lam, into, out = modes
    if not all(np.isfinite(x).all() for x in modes) or np.abs(lam).max() >= 1:
        raise ValueError(
            f"the largest |lambda| is {np.abs(lam).max()}; expected finite parameters, and "
            "eigenvalues inside the unit disk"
        )
    a = np.block([[np.diag(lam.real), -np.diag(lam.imag)], [np.diag(lam.imag), np.diag(lam.real)]])
    b, c = np.concatenate([into.real, into.imag]), np.hstack([out.real, -out.imag])
    sign = np.repeat([1, -1], len(lam))
    r, l_ = _root(gramian(lam, into)), _root(gramian(lam, out.T) * np.outer(sign, sign))
    u, sigma, vh = np.linalg.svd(l_.T @ r)
    if not sigma[0] > 0:
        raise ValueError("the outputs do not depend on the inputs: B or C is zero")
    n = np.count_nonzero(sigma > _FLOOR * sigma[0])
    scale = np.sqrt(sigma[:n])
    left, right = (l_ @ u[:, :n] / scale).T, r @ vh[:n].T / scale
    return Balanced(left @ a @ right, left @ b, c @ right, sigma[:n])


def input_roots(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns S^(1/2) and S^(-1/2), symmetric, with the smallest eigenvalues of S raised.

    Example:
      >>> root, inverse = input_roots(np.diag([4.0, 0.0]))
      >>> root.tolist(), inverse.tolist()
      ([[2.0, 0.0], [0.0, 0.02]], [[0.5, 0.0], [0.0, 50.0]])
    """
    values, vectors = np.linalg.eigh(moments)
    sizes = np.sqrt(np.maximum(values, _LEAST_MOMENT * values.max()))
    return (vectors * sizes) @ vectors.T, (vectors / sizes) @ vectors.T


def _root(gram: np.ndarray) -> np.ndarray:
    """Returns R with R R^T = gram. Cholesky's needs a definite matrix, and this one may not be."""
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    return vectors * np.sqrt(np.maximum(values, 0))


def truncate(system: Balanced, order: int) -> Balanced:
    """Keeps the first states and drops the others: balanced truncation (Moore, 1981).

    The transfer function's error is at most twice the sum of the dropped sigma in the H-infinity
    norm (Enns, 1984; Glover, 1984). With second moments S of the inputs, this is the error of
    G S^(1/2). Reading s_k instead of s_{k-1} multiplies both transfer functions by z, which leaves
    the norm of their difference.
    """
    a, b, c, sigma = system
    return Balanced(a[:order, :order], b[:order], c[:, :order], sigma[:order])


def perturb(system: Balanced, order: int) -> Balanced:
    """Keeps the first states and puts the others at rest: singular perturbation.

    The dropped states s2 = A21 s1 + A22 s2 + B2 u are eliminated from the equation of the kept ones
    (Liu & Anderson, 1989):

        A = A11 + A12 (I - A22)^-1 A21,   B = B1 + A12 (I - A22)^-1 B2

    A constant input u then brings the kept states to their exact rest X1 u; that of the dropped
    states is X2 u. The textbook's outputs would need a full matrix D, and the layer's is diagonal.
    So C = C1 + C2 M, where M maps X1 to X2 on the `order // 2` directions of u (all, if there are
    fewer) that the kept states respond to most. More directions would fit badly conditioned ones.
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

    Phases are in [0, pi]. The outputs of a pair are twice the real part of one of its modes.
    """
    lam, vectors = np.linalg.eig(system.a)
    into, out = np.linalg.solve(vectors, system.b.astype(vectors.dtype)), system.c @ vectors
    upper = lam.imag >= 0
    pair = np.where(lam.imag > 0, 2.0, 1.0)
    return Modes(lam[upper], into[upper], (out * pair)[:, upper])
