# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Using the layer
#
# `lru.LRU` is a drop-in replacement for `nn.RNN(nn.GRUCell(...))`. This notebook uses it in Flax Linen and NNX, step by
# step, with padding, resets and two directions, and with weights from another implementation. Every result is compared
# with a second computation. It needs `pip install -e ".[notebooks]"` and takes under a minute on a laptop.

# %%
import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import lru
import lru.nnx
from lru.layers import reference
from lru.models.streaming import stream

plt.style.use("lru.analysis.plots")
rng = np.random.default_rng(0)
x = rng.normal(size=(4, 100, 16)).astype(np.float32)  # (B, T, H)
close = dict(rtol=1e-4, atol=1e-4)


# %% [markdown]
# ## In a Linen model and in an NNX model
#
# The layer has N complex modes, here 32, and its outputs are as wide as its inputs. The parameters have the same
# names and shapes in both APIs, so weights can be copied by name.


# %%
class Tagger(nn.Module):
    @nn.compact
    def __call__(self, x, **options):  # x (B, T, H)
        x = lru.LRU(32, r_min=0.9, r_max=0.999, name="mixer")(x, **options)
        return nn.Dense(5, name="head")(nn.gelu(x))


class NNXTagger(nnx.Module):
    def __init__(self, rngs):
        self.mixer = lru.nnx.LRU(16, 32, r_min=0.9, r_max=0.999, rngs=rngs)
        self.head = nnx.Linear(16, 5, rngs=rngs)

    def __call__(self, x, **options):
        return self.head(nnx.gelu(self.mixer(x, **options)))


logits, variables = jax.jit(Tagger().init_with_output)(jax.random.key(0), x)  # (4, 100, 5)

native = nnx.eval_shape(lambda: NNXTagger(nnx.Rngs(0)))  # shapes only: the weights follow
nnx.update(native, variables["params"])
call = nnx.jit(lambda model, x: model(x))
np.testing.assert_allclose(call(native, x), logits, **close)

# %% [markdown]
# ## Step by step
#
# The carry is all that the layer needs to continue a sequence. A whole sequence, chunks of it, and single steps have the
# same outputs. `lru.models.streaming.stream` returns a compiled step of any layer or model that is `causal`.

# %%
layer, params = lru.LRU(32, r_min=0.9, r_max=0.999), {"params": variables["params"]["mixer"]}
apply = jax.jit(layer.apply, static_argnames=("return_carry", "reverse", "keep_order"))
whole = apply(params, x)
carry, first = apply(params, x[:, :50], return_carry=True)
_, second = apply(params, x[:, 50:], initial_carry=carry, return_carry=True)
np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, **close)

step, carry = stream(layer, params, x[:, :1])
size, outputs = carry.nbytes, []
for t in range(100):
    carry, y = step(carry, x[:, t : t + 1])
    outputs.append(y)
np.testing.assert_allclose(np.concatenate(outputs, axis=1), whole, **close)
assert carry.nbytes == size  # the carry has a constant size

# %% [markdown]
# ## Lengths, resets and directions
#
# Padding on the right changes no valid output, in either direction. `reset` is True at the first step of a new sequence,
# so several short sequences in a row give the same outputs as a batch of them.

# %%
lengths = np.array([100, 60, 60, 60])
padded = np.where(np.arange(100)[:, None] < lengths[:, None, None], x, 1e3)
both = lru.LRU(32, bidirectional=True)
both_params = jax.jit(both.init)(jax.random.key(1), x)
apply_both = jax.jit(both.apply)
for function, weights in ((apply, params), (apply_both, both_params)):
    y = function(weights, padded, seq_lengths=lengths)
    np.testing.assert_allclose(y[:1], function(weights, x)[:1], **close)
    np.testing.assert_allclose(y[1:, :60], function(weights, x[1:, :60]), **close)

reset = np.zeros((1, 400), bool)
reset[:, ::100] = True
packed = apply(params, x.reshape(1, 400, 16), reset=reset)
np.testing.assert_allclose(packed.reshape(x.shape), whole, **close)

# %% [markdown]
# The plots show how much every output changes if the input at step 60 changes. A causal layer propagates the change
# forward, and `reverse=True` backward (`keep_order` leaves the outputs in the order of the inputs). A bidirectional layer
# propagates it both ways. Nothing crosses a reset, here at step 75.

# %%
changed = x.copy()
changed[:, 60] += rng.normal(size=16)
reset = np.tile(np.arange(100) == 75, (4, 1))
cases = {
    "causal": (apply, params, {}),
    "reverse": (apply, params, dict(reverse=True, keep_order=True)),
    "bidirectional": (apply_both, both_params, {}),
    "causal, reset at 75": (apply, params, dict(reset=reset)),
}
reached = dict(zip(cases, (slice(60, 100), slice(0, 61), slice(0, 100), slice(60, 75))))
figure, axes = plt.subplots(1, 4, figsize=(9, 2.4), sharey=True)
for axis, (name, (function, weights, options)) in zip(axes, cases.items()):
    difference = function(weights, changed, **options) - function(weights, x, **options)
    change = np.linalg.norm(difference[0], axis=-1)
    assert np.all(change[reached[name]] > 0)
    assert np.count_nonzero(change) == len(change[reached[name]])
    axis.plot(change)
    axis.set(title=name, xlabel="step")
axes[0].set(ylabel="change of the output")
plt.show()

# %% [markdown]
# ## Weights from another implementation
#
# Other implementations, such as [minimal-LRU](https://github.com/NicolasZucchet/minimal-LRU), also use the names of
# Appendix A: `theta_log`, `nu_log` and `gamma_log` `(N,)`, `B_re` and `B_im` `(N, H)`, `C_re` and `C_im` `(H, N)`, and
# `D` `(H,)`. A dictionary with these arrays is a dictionary of this layer's parameters. The one below is drawn by NumPy
# as in the paper's appendix. `lru.layers.reference` is the layer as that appendix writes it.

# %%
n, width = 24, 8
u1, u2 = rng.uniform(0.01, 0.99, size=(2, n))
nu = -0.5 * np.log(u1 * (0.999**2 - 0.9**2) + 0.9**2)
theirs = {
    "nu_log": np.log(nu),
    "theta_log": np.log(2 * np.pi * u2),
    "gamma_log": np.log(np.sqrt(1 - np.exp(-nu) ** 2)),
    "B_re": rng.normal(size=(n, width)) / np.sqrt(2 * width),
    "B_im": rng.normal(size=(n, width)) / np.sqrt(2 * width),
    "C_re": rng.normal(size=(width, n)) / np.sqrt(n),
    "C_im": rng.normal(size=(width, n)) / np.sqrt(n),
    "D": rng.normal(size=width),
}
theirs = {name: np.float32(array) for name, array in theirs.items()}
u = x[0, :, :width]
_, expected = jax.jit(reference.forward)(theirs, u)
y = jax.jit(lru.LRU(n).apply)({"params": theirs}, u)
np.testing.assert_allclose(y, expected, **close)

copied = nnx.eval_shape(lambda: lru.nnx.LRU(width, n, rngs=nnx.Rngs(0)))
nnx.update(copied, jax.tree.map(jnp.asarray, theirs))
np.testing.assert_allclose(call(copied, u), expected, **close)

# %% [markdown]
# ## Methods of the recurrence
#
# Several methods compute the recurrence, with the same outputs and derivatives. `method="auto"` is the sequential scan
# on a CPU. [The results](../results/speed.md) compare their speed.


# %%
def loss(params, method):
    module = lru.LRU(32, r_min=0.9, r_max=0.999, method=method)
    return jnp.mean(module.apply(params, x) ** 2)


value_and_gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)
sequential = value_and_gradient(params, "sequential")
associative = value_and_gradient(params, "associative")
for one, other in zip(jax.tree.leaves(sequential), jax.tree.leaves(associative)):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
