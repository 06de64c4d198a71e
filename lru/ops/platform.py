"""Choices of methods and settings that depend on the platform.

The choices affect speed and memory, and results only by rounding. Users can make most of them
explicitly instead, with `method`, `chunk_size` and `order` of a layer, `remat` of a block, and
`matmul_precision` of training.
"""

from __future__ import annotations

import functools
import importlib
import math
from typing import Any

import jax
from jax.export import is_symbolic_dim

MOST_UNROLLED = 64  # steps; a program with more unrolled steps would take too long to compile
AMPLE_BYTES = 48 * 2**30  # enough to train on any Long Range Arena task without remat


def is_cpu() -> bool:
    """Returns whether JAX's default backend is the CPU.

    On a CPU, kernel launches are cheap and memory is slow.
    """
    return jax.default_backend() == "cpu"


def is_gpu() -> bool:
    """Returns whether JAX's default backend is a GPU."""
    return jax.default_backend() == "gpu"


@functools.cache
def kernel_compiles() -> bool:
    """Returns whether the device is a GPU that the kernel of `lru.ops.pallas` compiles for.

    On NVIDIA GPUs, Triton needs compute capability 8 or more.
    """
    if not is_gpu():
        return False
    try:
        importlib.import_module("lru.ops.pallas")
    except ImportError:  # another JAX may lack Pallas for Triton
        return False
    capability = getattr(jax.local_devices()[0], "compute_capability", "")  # "9.0"; "gfx90a"
    major = str(capability).partition(".")[0]
    return not major.isdigit() or int(major) >= 8


@functools.cache
def has_ample_memory() -> bool:
    """Returns whether the device is an accelerator with at least `AMPLE_BYTES` of memory.

    An accelerator that does not report the size of its memory is assumed to have enough.
    """
    if is_cpu():
        return False
    found = jax.local_devices()[0].memory_stats() or {}
    return found.get("bytes_limit", AMPLE_BYTES) >= AMPLE_BYTES


def scan_unroll(steps: Any) -> int:
    """Returns the number of steps to unroll in a scan over small matrix products.

    On a GPU, a short scan is unrolled completely. A loop would also launch a kernel for each copy
    of the values that it saves for the backward pass, and launches take most of such a scan's time.
    Other scans are not unrolled.
    """
    short = not is_symbolic_dim(steps) and steps <= MOST_UNROLLED
    return steps if is_gpu() and short else 1


def sum_parts(steps: Any) -> int:
    """Returns into how many equal parts to divide a sum over time.

    On a GPU, XLA computes the terms of a sum in the same kernel only if the sum has enough parts to
    occupy the GPU. Otherwise, it writes the terms to memory and reads them again.
    """
    return math.gcd(steps, 64) if is_gpu() and not is_symbolic_dim(steps) else 1


def product_precision(name: str) -> str:
    """Returns the precision of float32 products, as JAX names it; "auto" depends on the platform.

    On a GPU, "auto" is TensorFloat-32, which is JAX's own default there. Elsewhere, it is float32.
    """
    return ("tensorfloat32" if is_gpu() else "float32") if name == "auto" else name


def rematerialises(remat: bool | None) -> bool:
    """Returns whether a block recomputes its intermediate values in the backward pass.

    A Boolean `remat` is returned unchanged; None means True unless the device has ample memory.
    """
    return not has_ample_memory() if remat is None else remat
