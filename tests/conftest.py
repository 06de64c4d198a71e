"""Settings and fixtures of all tests.

Annotations of shapes and types are checked only in tests: in the modules listed below, beartype
checks the arguments and results of every call. Programs are compiled with little optimization,
because tests spend more time on compiling than on computing. There is one CPU device, unless the
variable `LRU_TEST_DEVICES` gives another number. `test_several_devices.py` starts a process with
several devices in this way, so that programs for several devices are tested on any machine.
"""

import functools
import gc
import getpass
import importlib.metadata
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# The flags are set before JAX is imported, because XLA reads them only once.
FLAGS = [
    os.environ.get("XLA_FLAGS", ""),
    f"--xla_force_host_platform_device_count={os.environ.get('LRU_TEST_DEVICES', 1)}",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later versions abort at this flag
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # would double the tests' time
os.environ["XLA_FLAGS"] = " ".join(FLAGS)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The same programs are compiled repeatedly, by several workers and by processes that tests start.
CACHE = Path(tempfile.gettempdir()) / f"lru-tests-{getpass.getuser()}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax  # noqa: E402
import jax.extend  # noqa: E402
import jaxtyping  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

jaxtyping.install_import_hook(
    [
        "lru.ops.matmul",
        "lru.ops.recurrence",
        "lru.ops.initializers",
        "lru.layers.mixers",
        "lru.layers.padding",
        "lru.layers.state_space",
        "lru.layers.linear",
        "lru.layers.cells",
        "lru.layers.stacks",
        "lru.lattice",
        "lru.models.budget",
        "lru.nnx",
        "lru.layers.parameters",
        "lru.layers.dense",
        "lru.layers.diagonal",
        "lru.layers.hippo",
        "lru.layers.s4d",
        "lru.layers.s5",
        "lru.layers.gated",
        "lru.models.blocks",
        "lru.models",
        "lru.models.streaming",
    ],
    "beartype.beartype",
)
gc.set_threshold(20_000, 20, 20)  # tracing creates many objects, few of which are garbage
settings.register_profile("lru", deadline=None, max_examples=20, derandomize=True)
settings.load_profile("lru")


@pytest.fixture(scope="module", autouse=True)
def small_memory():
    """Clears JAX's caches after each test file; the programs of all files would need gigabytes."""
    yield
    jax.clear_caches()


def pytest_collection_modifyitems(config, items):
    """Puts `test_several_devices.py` first, because it takes longest.

    This file runs the tests marked with `several_devices` in a new process with several devices. In
    a process with only one device, these tests are deselected.
    """
    items.sort(key=lambda item: item.path.name != "test_several_devices.py")
    if jax.device_count() == 1:
        apart = [item for item in items if item.get_closest_marker("several_devices")]
        config.hook.pytest_deselected(items=apart)
        items[:] = [item for item in items if item not in apart]


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory):
    """Returns a function that takes a data set's name and returns a directory with its raw files.

    The script `unpack.py TARGET NAME` in the directory `LRU_RAW_DATA` writes the files. A test is
    skipped if this variable is not set, and fails if the directory has no such script.
    """

    @functools.cache
    def unpacked(name: str) -> Path:
        if not (source := os.environ.get("LRU_RAW_DATA")):
            pytest.skip(f"needs the raw data set {name}: LRU_RAW_DATA=DIRECTORY with an unpack.py")
        if not (script := Path(source, "unpack.py")).is_file():
            pytest.fail(f"LRU_RAW_DATA is {source}, which has no unpack.py")
        directory = tmp_path_factory.getbasetemp() / "shared_data"
        command = [sys.executable, script, directory, name]
        subprocess.run(command, check=True, capture_output=True)
        return directory / name if (directory / name).is_dir() else directory

    return unpacked


@pytest.fixture
def interruptible():
    """Makes SIGINT raise `KeyboardInterrupt` during a test.

    Otherwise, tests that a shell runs in the background would ignore SIGINT.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def unchecked_annotations():
    """Turns off the checks of annotations, so that a test sees the errors that users see."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def count_products():
    """Returns a function that counts a program's matrix products inside and outside of its scans.

    The function takes the program, as a function, and its arguments.
    """

    def count(function, *arguments):
        found = []

        def visit(jaxpr, inside):
            for eqn in jaxpr.eqns:
                if eqn.primitive.name == "dot_general":
                    found.append(inside)
                for sub in jax.extend.core.jaxprs_in_params(eqn.params):
                    visit(sub, inside or eqn.primitive.name == "scan")

        visit(jax.make_jaxpr(function)(*arguments).jaxpr, False)
        return found.count(True), found.count(False)

    return count


@pytest.fixture
def slopes():
    """Returns a function `slopes(loss, params)` that returns derivatives by central differences.

    `loss` maps `params`, a dict of arrays, to a number. The derivatives are a dict with an array in
    float64 for each array in `params`.
    """

    def slope(loss, params, name, index):
        ends = []
        for step in (1e-6, -1e-6):
            moved = np.array(params[name], np.float64)
            moved[index] += step
            ends.append(loss(params | {name: moved}))
        return (ends[0] - ends[1]) / 2e-6

    def all_slopes(loss, params):
        params = jax.tree.map(np.float64, dict(params))
        return {
            name: np.reshape([slope(loss, params, name, i) for i in np.ndindex(p.shape)], p.shape)
            for name, p in params.items()
        }

    return all_slopes
