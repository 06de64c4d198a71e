"""Compiles the GPU kernel of the recurrence for an H100, without a GPU, and counts its registers.

    python scripts/kernel_registers.py

The script needs JAX with CUDA support (`pip install "jax[cuda13]"`), whose compiler and assembler
also run on machines without a GPU. After a header, each line of the output describes one kernel:
the name of its case; the block, the unrolling and the chunks that `lru.ops.pallas.plan` chooses;
the number of registers of each thread; and the number of spilled bytes, which are stored and loaded
because they do not fit into the registers. The exit code is 1 if any bytes are spilled.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

DUMP = Path(tempfile.mkdtemp(prefix="kernel_registers"))
FLAGS = f"--xla_dump_to={DUMP} --xla_dump_emitter_re=ptx --xla_gpu_autotune_level=0"
os.environ["XLA_FLAGS"] = FLAGS
os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}
os.environ.pop("JAX_PLATFORMS", None)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, SingleDeviceSharding  # noqa: E402

from lru.ops import pallas  # noqa: E402

H100 = """gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 registers_per_core_limit: 65536 registers_per_block_limit: 65536
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 12 } runtime_version { major: 13 }
device_description_str: "NVIDIA H100 80GB HBM3" """
NAME = "NVIDIA H100 80GB HBM3"


class Case(NamedTuple):
    """A shape and options for which the kernel is compiled.

    Attributes:
      name: the name to print.
      batch, time, modes: the sizes B, T and N.
      dtype: the type of the inputs x.
      reset: whether to pass resets.
      varying: whether the factors a differ from step to step.
      reverse: whether the recurrence runs from the last step to the first.
      backward: whether to compile the backward pass.
    """

    name: str
    batch: int
    time: int
    modes: int
    dtype: str = "float32"
    reset: bool = False
    varying: bool = False
    reverse: bool = False
    backward: bool = False


CASES = [
    Case("ListOps", 32, 2048, 256),
    Case("Text", 32, 4096, 192),
    Case("Retrieval", 128, 4000, 256),
    Case("sCIFAR", 50, 1024, 384),
    Case("Pathfinder, right to left", 64, 1024, 256, reverse=True),
    Case("Path-X", 32, 16384, 256),
    Case("Path-X in bfloat16", 32, 16384, 256, dtype="bfloat16"),
    Case("ListOps, backward pass", 32, 2048, 256, backward=True),
    Case("Text, backward pass", 32, 4096, 192, backward=True),
    Case("Retrieval, backward pass", 128, 4000, 256, backward=True),
    Case("sCIFAR, backward pass", 50, 1024, 384, backward=True),
    Case("Pathfinder, right to left, backward pass", 64, 1024, 256, reverse=True, backward=True),
    Case("Path-X, backward pass", 32, 16384, 256, backward=True),
    Case("Path-X in bfloat16, backward pass", 32, 16384, 256, dtype="bfloat16", backward=True),
    Case("ListOps with resets", 32, 2048, 256, reset=True),
    Case("ListOps with resets, backward pass", 32, 2048, 256, reset=True, backward=True),
    Case("ListOps with factors by step", 32, 2048, 256, varying=True),
    Case("one sequence", 1, 2048, 256),
    Case("one sequence, backward pass", 1, 2048, 256, backward=True),
    Case("one sequence, all options", 1, 2001, 250, reset=True, varying=True, reverse=True),
]


def main() -> int:
    """Compiles all cases and prints their registers; returns 1 if a kernel spills, else 0."""
    print("kernel | block | unroll | chunks | registers | spilled bytes")
    total = 0
    for case in CASES:
        loads = 2 * (1 + case.varying + case.backward) + case.reset
        itemsize = jnp.dtype(case.dtype).itemsize
        planned = pallas.plan(case.time, case.batch * case.modes, loads, itemsize)
        columns = case.name, planned.block, planned.unroll, planned.chunks
        for registers, spilled in kernels(case):
            print(*columns, registers, spilled, sep=" | ", flush=True)
            total += spilled
    return int(total > 0)


def kernels(case: Case) -> Iterator[tuple[int, int]]:
    """Compiles a case and yields the numbers of registers and spilled bytes of each kernel."""
    before = set(DUMP.glob("*.ptx"))
    solve = pallas.solve_transposed if case.backward else pallas.solve
    run = functools.partial(solve, reverse=case.reverse, pairs=True)
    there = AbstractDevice(device_kind=NAME, num_cores=132, platform="gpu")
    mesh = AbstractMesh((1,), ("x",), axis_types=(AxisType.Auto,), abstract_device=there)
    with jax.sharding.use_abstract_mesh(mesh):
        jax.jit(run).trace(*operands(case)).lower(lowering_platforms=("cuda",)).compile()
    for file in sorted(set(DUMP.glob("*.ptx")) - before):
        if "linear_recurrence" in file.read_text():
            yield assembled(file)


def operands(case: Case) -> tuple[jax.ShapeDtypeStruct | None, ...]:
    """Returns a `jax.ShapeDtypeStruct`, on an H100, for each of a, x, h0 and reset.

    If there is no reset, None takes its place. In the backward pass, g takes the place of x, and h
    that of h0; see `lru.ops.pallas.solve_transposed`.
    """
    there = SingleDeviceSharding(device())
    shape = functools.partial(jax.ShapeDtypeStruct, sharding=there)
    row = (case.batch, 2 * case.modes)
    a = (case.time, *row) if case.varying else (1, 1, 2 * case.modes)
    reset = shape((case.time, case.batch, 1), bool) if case.reset else None
    x = shape((case.time, *row), jnp.dtype(case.dtype))
    h = x if case.backward else shape((1, *row), jnp.float32)
    return shape(a, jnp.float32), x, h, reset


@functools.cache
def device() -> jax.Device:
    """Returns an H100 to compile for."""
    topology = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    return topology.devices[0]


def assembled(file: Path) -> tuple[int, int]:
    """Assembles the kernel in a file.

    Returns:
      The number of registers of a thread, and the number of bytes in its spill stores and loads.
    """
    command = [assembler(), "-v", "-arch=sm_90a", "-o", os.devnull, str(file)]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    (registers,) = re.findall(r"Used (\d+) registers", report)
    return int(registers), sum(map(int, re.findall(r"(\d+) bytes spill", report)))


@functools.cache
def assembler() -> str:
    """Returns the path of ptxas in NVIDIA's Python packages; "ptxas" if they do not contain it."""
    package = find_spec("nvidia")
    roots = map(Path, package.submodule_search_locations or ()) if package else ()
    found = [str(file) for root in roots for file in root.rglob("bin/ptxas")]
    return found[0] if found else "ptxas"


if __name__ == "__main__":
    sys.exit(main())
