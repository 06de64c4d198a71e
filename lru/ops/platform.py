"""What the defaults choose by platform: the one place where the device is asked what it can do.

Every choice here changes speed and memory, and at most the last bits of results. Each can be made
by hand instead: `method`, `chunk_size` and `order` of a layer, `remat` of a block, and
`matmul_precision` of training.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import jax
from jax.export import is_symbolic_dim

MOST_UNROLLED = 64  # steps; a program of more would take long to compile
AMPLE_BYTES = 48 * 2**30  # a step of the Long Range Arena saves up to 40 GB without rematerialising


def is_cpu() -> bool:
    """Returns whether programs run on a CPU, where launches are free and memory is slow."""
    return jax.default_backend() == "cpu"


def is_gpu() -> bool:
    """Returns whether programs run on a GPU."""
    return jax.default_backend() == "gpu"


@functools.cache
def kernel_compiles() -> bool:
    """Returns whether the kernel of `lru.ops.pallas` can be compiled for the one device here.

    XLA cannot divide the kernel among several devices, and Triton needs compute capability 8.
    """
    if not is_gpu() or jax.device_count() > 1:
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
    """Returns whether the values of a whole training step fit in memory.

    An accelerator that does not tell its memory counts as ample.
    """
    if is_cpu():
        return False
    found = jax.local_devices()[0].memory_stats() or {}
    return found.get("bytes_limit", AMPLE_BYTES) >= AMPLE_BYTES


def scan_unroll(steps: Any) -> int:
    """Returns how many steps of a scan over small matrix products are one step of its loop.

    On a GPU the steps of a short scan are not a loop: a loop copies the values that it saves for
    the backward pass, each by a kernel of its own, and such a scan waits for launches.
    """
    short = not is_symbolic_dim(steps) and steps <= MOST_UNROLLED
    return steps if is_gpu() and short else 1


def product_precision(name: str) -> str:
    """Returns the precision of float32 products, by a name that JAX knows, for one or "auto".

    GPUs have TensorFloat-32, JAX's own default for them; elsewhere products are exact.
    """
    return ("tensorfloat32" if is_gpu() else "float32") if name == "auto" else name


def rematerialises(remat: bool | None) -> bool:
    """Returns whether a block computes its values again in the backward pass; None: if it must."""
    return not has_ample_memory() if remat is None else remat
