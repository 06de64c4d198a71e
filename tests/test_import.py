"""`import lru` is light, and every public module is available on use."""

import pkgutil
import subprocess
import sys

import pytest

import lru
import lru.layers.linear


def test_every_module_is_an_attribute():
    names = [module.name for module in pkgutil.iter_modules(lru.__path__)]
    assert {
        "models",
        "lattice",
        "nnx",
        "baselines",
        "layers",
        "ops",
        "analysis",
        "data",
        "training",
    } <= set(names)
    for name in names:
        assert getattr(lru, name).__name__ == f"lru.{name}"
    assert {*names, *lru.__all__, "__version__"} <= set(dir(lru))


def test_internal_names_are_not_listed():
    public = {name for name in dir(lru) if not name.startswith("__")}
    modules = {module.name for module in pkgutil.iter_modules(lru.__path__)}
    assert public == modules | set(lru.__all__)


@pytest.mark.parametrize("name", ["modles", "_private", "__wrapped__", "importlib"])
def test_a_missing_name_raises_an_attribute_error(name):
    assert not hasattr(lru, name)
    with pytest.raises(AttributeError, match=f"module 'lru' has no attribute '{name}'"):
        getattr(lru, name)


def test_import_loads_no_jax_and_a_layer_loads_only_jax_and_flax():
    code = """
import sys, lru
assert not {"jax", "flax", "numpy"} & set(sys.modules)
lru.models
lru.LRU
heavy = {"optax", "orbax", "grain", "matplotlib", "ml_collections", "lru.training", "PIL"}
assert "jax" in sys.modules and not heavy & set(sys.modules)
print(lru.models.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "lru.models\n", done.stderr


# The packages of the extra `train` that jax and flax do not depend on.
_EXTRA = ("array_record", "filelock", "grain", "matplotlib", "ml_collections", "PIL", "safetensors",
          "tensorflow_datasets", "tqdm")  # fmt: skip
_ARGUMENTS = {
    "compare": ["run"],
    "evaluate": ["--workdir=run"],
    "export": ["--workdir=run", "--out=exported"],
    "generate": ["--workdir=run", "--prompt=a"],
    "predict": ["--workdir=run", "--input=new.npz", "--out=predictions.npz"],
    "prepare": ["--config=listops"],
    "reduce": ["--workdir=run", "--modes=2", "--out=reduced"],
    "spectrum": ["--workdir=run"],
    "train": ["--config=listops:smoke", "--workdir=run"],
}
_CORE_ALONE = f"""
import runpy, sys
for name in {_EXTRA}:
    sys.modules[name] = None  # as if it were not installed
for name, arguments in {_ARGUMENTS}.items():
    sys.argv = [name, *arguments]
    try:
        runpy.run_module(f"lru.{{name}}", run_name="__main__")
    except SystemExit as exit:
        print(name, exit.code)

from lru.export import load
from lru.reduce import balanced_truncation
from lru.spectrum import eigenvalues, plot_eigenvalues
"""


def test_commands_without_their_packages_report_one_error(tmp_path):
    code = [sys.executable, "-W", "ignore", "-c", _CORE_ALONE]
    done = subprocess.run(code, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines() == [f"{name} 2" for name in _ARGUMENTS], done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("is not installed; install the dependencies") == len(_ARGUMENTS)
    assert not any(tmp_path.iterdir())


def test_a_missing_package_raises_its_name(monkeypatch):
    monkeypatch.delattr(lru, "nnx", raising=False)
    for name in ("lru.nnx", "lru.nnx.linear", "lru.nnx.wrapped"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "flax", None)
    with pytest.raises(ModuleNotFoundError, match="flax"):
        lru.nnx  # noqa: B018
