"""Settings and fixtures of all tests.

Shape annotations are checked here, and only here: every function of the modules below is called
through beartype, which holds arrays against their jaxtyping annotations. Programs are compiled
with little optimisation, because tests compile much and compute little. There is one CPU device, as
most users have it, and as many as `LRU_TEST_DEVICES` says in the process that
`test_several_devices.py` starts, so that what runs on several is tested on any machine.
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

# Before JAX is imported: XLA reads its flags once.
FLAGS = [
    os.environ.get("XLA_FLAGS", ""),
    f"--xla_force_host_platform_device_count={os.environ.get('LRU_TEST_DEVICES', 1)}",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones end at this flag
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # they take half of the tests' time
os.environ["XLA_FLAGS"] = " ".join(FLAGS)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The same programs are compiled again and again, by both workers and in processes of their own.
CACHE = Path(tempfile.gettempdir()) / f"lru-tests-{getpass.getuser()}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax  # noqa: E402
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
gc.set_threshold(20_000, 20, 20)  # tracing makes many objects, and few of them are garbage
settings.register_profile("lru", deadline=None, max_examples=20, derandomize=True)
settings.load_profile("lru")


@pytest.fixture(scope="module", autouse=True)
def small_memory():
    """Compiled programs of a file end with it: all together they are gigabytes."""
    yield
    jax.clear_caches()


def pytest_collection_modifyitems(config, items):
    """Tests of several devices are run by `test_several_devices.py`, where there are.

    That one comes first, because it takes longest.
    """
    items.sort(key=lambda item: item.path.name != "test_several_devices.py")
    if jax.device_count() == 1:
        apart = [item for item in items if item.get_closest_marker("several_devices")]
        config.hook.pytest_deselected(items=apart)
        items[:] = [item for item in items if item not in apart]


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory):
    """`shared_data(name)`: a directory with that raw data set.

    `LRU_RAW_DATA` is a directory whose `unpack.py TARGET NAME` writes it. The test is skipped if
    the variable is not set, and fails if it is set and nothing is there.
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
    """SIGINT interrupts, even if it is inherited as ignored, as a shell's background jobs do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def unchecked_annotations():
    """The library as its users have it, for tests of its own complaints about arguments."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def slopes():
    """`slopes(loss, params)`: the derivatives of a float64 function, by central differences."""

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
