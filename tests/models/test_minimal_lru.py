"""Models of minimal-LRU compute the same here, compared with its equations in float64."""

import jax
import numpy as np
import pytest

import lru
from lru.models import SequenceClassifier, SequenceTagger
from lru.models.minimal_lru import from_minimal_lru

T, F, H, N, V, L = 12, 3, 4, 6, 5, 2


def draw(norm, seed=0):
    """Draws variables with the names that minimal-LRU's `ClassificationModel` gives them."""
    rng = np.random.default_rng(seed)

    def dense(rows, columns):
        return {"kernel": rng.normal(size=(rows, columns)), "bias": rng.normal(size=columns)}

    def recurrence():
        shapes = {"B_re": (N, H), "B_im": (N, H), "C_re": (H, N), "C_im": (H, N), "D": (H,)}
        logs = {"nu_log": rng.uniform(-3, -1, N), "theta_log": rng.uniform(-2, 1, N)}
        arrays = {name: rng.normal(size=shape) / 3 for name, shape in shapes.items()}
        return {**logs, "gamma_log": rng.normal(size=N) / 3, **arrays}

    def layer():
        affine = {"scale": rng.normal(size=H), "bias": rng.normal(size=H)}
        return {"seq": recurrence(), "out1": dense(H, H), "out2": dense(H, H),
                "normalization": affine}  # fmt: skip

    layers = {f"layers_{i}": layer() for i in range(L)}
    params = {"encoder": {"encoder": dense(F, H), **layers}, "decoder": dense(H, V)}
    if norm == "layer":
        return {"params": params}
    running = {
        name: {"normalization": {"mean": rng.normal(size=H), "var": rng.uniform(0.5, 2, H)}}
        for name in layers
    }
    return {"params": params, "batch_stats": {"encoder": running}}


def reference(variables, inputs, prenorm, pooling):
    """Computes minimal-LRU's log probabilities of one sequence `(T, F)`."""
    encoder, stats = variables["params"]["encoder"], variables.get("batch_stats")

    def dense(layer, x):
        return x @ layer["kernel"] + layer["bias"]

    def normalize(name, x):
        affine = encoder[name]["normalization"]
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        epsilon = 1e-6
        if stats:
            running, epsilon = stats["encoder"][name]["normalization"], 1e-5
            mean, var = running["mean"], running["var"]
        return (x - mean) / np.sqrt(var + epsilon) * affine["scale"] + affine["bias"]

    def recur(p, x):
        lam = np.exp(-np.exp(p["nu_log"]) + 1j * np.exp(p["theta_log"]))
        b = (p["B_re"] + 1j * p["B_im"]) * np.exp(p["gamma_log"])[:, None]
        h, outputs = np.zeros(N, complex), []
        for u in x:
            h = lam * h + b @ u
            outputs.append(((p["C_re"] + 1j * p["C_im"]) @ h).real + p["D"] * u)
        return np.array(outputs)

    x = dense(encoder["encoder"], inputs)
    for name in sorted(name for name in encoder if name != "encoder"):
        layer = encoder[name]
        z = recur(layer["seq"], normalize(name, x) if prenorm else x)
        z = z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
        x = x + dense(layer["out1"], z) / (1 + np.exp(-dense(layer["out2"], z)))
        x = x if prenorm else normalize(name, x)
    x = {"mean": x.mean(0), "last": x[-1], "none": x}[pooling]
    x = dense(variables["params"]["decoder"], x)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("pooling", ["mean", "last", "none"])
@pytest.mark.parametrize("prenorm", [True, False])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_converted_model_has_the_outputs_of_minimal_lru(norm, prenorm, pooling):
    variables = draw(norm)
    inputs = np.random.default_rng(1).normal(size=(2, T, F))
    options = dict(d_model=H, num_layers=L, mixer=lru.LRU(N), norm=norm, prenorm=prenorm)
    if pooling == "none":
        model = SequenceTagger(V, **options)
    else:
        model = SequenceClassifier(V, **options, pooling=pooling)
    converted = from_minimal_lru(variables)
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    assert jax.tree.structure(shapes) == jax.tree.structure(converted)
    got = jax.nn.log_softmax(model.apply(converted, inputs))
    want = [reference(variables, x, prenorm, pooling) for x in inputs]
    np.testing.assert_allclose(got, want, atol=2e-4)


ARRAYS = [
    "/".join(key.key for key in path)
    for path, _ in jax.tree_util.tree_leaves_with_path(draw("batch"))
]


@pytest.mark.parametrize("path", [path for path in ARRAYS if "layers_1" not in path])
def test_a_missing_array_raises_its_path(path):
    variables = tree = draw("batch")
    *folders, name = path.split("/")
    for folder in folders:
        tree = tree[folder]
    del tree[name]
    with pytest.raises(ValueError, match=f"the variables lack {path}; expected those of"):
        from_minimal_lru(variables)


def test_variables_of_another_model_raise():
    variables = draw("layer")
    del variables["params"]["encoder"]["layers_1"]["out2"]
    with pytest.raises(ValueError, match="lack params/encoder/layers_1/out2; expected those of"):
        from_minimal_lru(variables)
