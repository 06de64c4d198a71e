"""Variables read from a safetensors file equal those written, or an error says why not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lru.errors import UserError
from lru.models.weights import read_weights, write_weights

VARIABLES = {
    "params": {"layer": {"w": jnp.array([[0.1, -0.0], [1e-40, 3e38]]), "n": jnp.array(7)}},
    "batch_stats": {"mean": jnp.array([1.5, jnp.nan], jnp.bfloat16), "none": {}},
}


@pytest.fixture
def file(tmp_path):
    write_weights(tmp_path / "model.safetensors", VARIABLES, {"a": "β"})
    return tmp_path / "model.safetensors"


def test_every_bit_type_and_name_is_restored(file):
    got, metadata = read_weights(file, jax.eval_shape(lambda: VARIABLES))
    assert jax.tree.structure(got) == jax.tree.structure(VARIABLES) and metadata == {"a": "β"}
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(VARIABLES)):
        assert one.dtype == other.dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_tensors_are_named_by_their_path(file):
    with pytest.raises(UserError, match="has params/layer/w, which the model does not have"):
        read_weights(file, VARIABLES | {"params": {"layer": {"n": jnp.array(7)}}})


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("v", jnp.zeros(3), "lacks params/layer/v, which the model needs"),
        ("n", jnp.array([7]), r"params/layer/n is int32\[\]; expected int32\[1\]"),
        ("n", jnp.array(7.0), r"params/layer/n is int32\[\]; expected float32\[\]"),
    ],
    ids=["missing", "shape", "type"],
)
def test_a_mismatched_tensor_is_named_in_the_error(name, value, message, file):
    layer = VARIABLES["params"]["layer"] | {name: value}
    with pytest.raises(UserError, match=message):
        read_weights(file, VARIABLES | {"params": {"layer": layer}})


def test_a_damaged_or_missing_file_raises(file):
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="model.safetensors is damaged"):
        read_weights(file, VARIABLES)
    file.unlink()
    with pytest.raises(UserError, match="model.safetensors is missing"):
        read_weights(file, VARIABLES)
