"""The settings of the tests: which warnings are errors, and where raw data come from."""

import warnings

import pytest


@pytest.mark.parametrize(
    ("module", "category", "is_error"),
    [
        ("lru.layers.linear", UserWarning, True),
        ("results_lra", RuntimeWarning, True),
        ("<run_path>", DeprecationWarning, True),  # a script or a config
        (__name__, DeprecationWarning, True),
        ("jax._src.deprecations", DeprecationWarning, True),
        ("jax", FutureWarning, True),
        ("flax.linen", DeprecationWarning, True),
        ("jax._src.compiler", UserWarning, False),
        ("jaxtyping", DeprecationWarning, False),
        ("matplotlib.pyplot", DeprecationWarning, False),
        ("orbax.checkpoint", FutureWarning, False),
    ],
)
def test_warnings_of_this_package_and_deprecations_of_jax_are_errors(module, category, is_error):
    with warnings.catch_warnings(record=True) as shown:
        try:
            warnings.warn_explicit("it is old", category, "file.py", 1, module=module)
        except category:
            assert is_error
        else:
            assert not is_error and len(shown) == 1


def test_raw_data_are_optional_unless_lru_raw_data_is_set(shared_data, monkeypatch, tmp_path):
    monkeypatch.delenv("LRU_RAW_DATA", raising=False)
    with pytest.raises(pytest.skip.Exception, match="LRU_RAW_DATA"):
        shared_data("no such data")
    monkeypatch.setenv("LRU_RAW_DATA", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="which has no unpack.py"):
        shared_data("no such data")
