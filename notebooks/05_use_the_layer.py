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
# `lru.LRU` stands wherever a model has `nn.RNN(nn.GRUCell(...))`. Here it is in Flax Linen and NNX, fed step by
# step, with padding, resets and both directions, and with weights from elsewhere.

# %%
import time

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

plt.style.use("notebook.mplstyle")
rng = np.random.default_rng(0)
x = rng.normal(size=(4, 100, 16)).astype(np.float32)  # (B, T, H)
close = dict(rtol=1e-4, atol=1e-4)


# %% [markdown]
# ## In a Linen model, and in an NNX model
#
# The layer has N complex modes, here 32, and outputs as wide as its inputs. Parameters have the same names and
# shapes in both, so that weights move by name.


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


linen = Tagger()
variables = jax.jit(linen.init)(jax.random.key(0), x)
logits = linen.apply(variables, x)  # (4, 100, 5)

native = NNXTagger(nnx.Rngs(0))
nnx.update(native, variables["params"])
np.testing.assert_allclose(native(x), logits, **close)

# %% [markdown]
# ## Fed as inputs arrive
#
# The state after a sequence is all that what follows needs: a whole sequence, chunks of it, and single steps give
# the same outputs. `lru.models.streaming.stream` makes a compiled step of a model or layer that says it is `causal`.

# %%
layer, params = lru.LRU(32, r_min=0.9, r_max=0.999), {"params": variables["params"]["mixer"]}
whole = layer.apply(params, x)
carry, first = layer.apply(params, x[:, :37], return_carry=True)
second = layer.apply(params, x[:, 37:], initial_carry=carry)
np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, **close)

step, carry = stream(layer, params, x[:, :1])
size, outputs = carry.nbytes, []
for t in range(100):
    carry, y = step(carry, x[:, t : t + 1])
    outputs.append(y)
np.testing.assert_allclose(np.concatenate(outputs, axis=1), whole, **close)
assert carry.nbytes == size  # a state of constant size

# %% [markdown]
# ## Lengths, resets, directions
#
# Padding on the right changes nothing, in either direction. `reset` is True at the first step of a new
# sequence: several short ones in a row are then as good as a batch of them.

# %%
lengths = np.array([100, 80, 50, 10])
padded = np.where(np.arange(100)[:, None] < lengths[:, None, None], x, 1e3)
both = lru.LRU(32, bidirectional=True)
both_params = jax.jit(both.init)(jax.random.key(1), x)
for module, weights in ((layer, params), (both, both_params)):
    y = module.apply(weights, padded, seq_lengths=lengths)
    for row, valid in enumerate(lengths):
        alone = module.apply(weights, x[row : row + 1, :valid])
        np.testing.assert_allclose(y[row, :valid], alone[0], **close)

reset = np.zeros((1, 400), bool)
reset[:, ::100] = True
packed = layer.apply(params, x.reshape(1, 400, 16), reset=reset)
np.testing.assert_allclose(packed.reshape(x.shape), whole, **close)

# %% [markdown]
# What each of them sees, drawn: the change of every output when the input at step 60 changes. A causal layer looks
# back only, `reverse` (with `keep_order`, so that outputs stay in their places) ahead only, a bidirectional one both
# ways, and nothing crosses a reset, here at step 75.

# %%
changed = x.copy()
changed[:, 60] += rng.normal(size=16)
reset = np.arange(100)[None] == 75
backwards = dict(reverse=True, keep_order=True)
cases = {
    "causal": (layer, params, {}),
    "reverse": (layer, params, backwards),
    "bidirectional": (both, both_params, {}),
    "causal, reset at 75": (layer, params, {"reset": np.tile(reset, (4, 1))}),
}
figure, axes = plt.subplots(1, 4, figsize=(9, 2.2), sharey=True)
for axis, (name, (module, weights, options)) in zip(axes, cases.items()):
    difference = module.apply(weights, changed, **options) - module.apply(weights, x, **options)
    change = np.linalg.norm(difference[0], axis=-1)
    seen = {"causal": change[60:], "reverse": change[:61], "bidirectional": change}
    seen = seen.get(name, change[60:75])
    assert np.count_nonzero(change) == len(seen) == np.count_nonzero(seen)
    axis.plot(change, linestyle="-")
    axis.set(title=name, xlabel="step")
axes[0].set(ylabel="change of the output")
plt.show()

# %% [markdown]
# ## Weights from elsewhere
#
# Other implementations keep the names of Appendix A, as [minimal-LRU](https://github.com/NicolasZucchet/minimal-LRU)
# does: `theta_log`, `nu_log`, `gamma_log` of shape (N,), `B_re`, `B_im` (N, H), `C_re`, `C_im` (H, N), `D` (H,). Those are
# this layer's parameters, so that such a dictionary is all that is needed. Here is one made by NumPy, as the
# paper's appendix makes it, run by `lru.layers.reference`, which is the layer written as that appendix writes it.

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
theirs = jax.tree.map(jnp.float32, theirs)
u = x[0, :, :width]
_, expected = reference.forward(theirs, u)
np.testing.assert_allclose(lru.LRU(n).apply({"params": theirs}, u), expected, **close)

moved = lru.nnx.LRU(width, n, rngs=nnx.Rngs(0))
nnx.update(moved, theirs)
np.testing.assert_allclose(moved(u), expected, **close)

# %% [markdown]
# ## One recurrence, several methods
#
# The recurrence can be solved in several ways, with the same outputs and derivatives; `method="auto"`
# takes the scan on a CPU, and elsewhere the associative one. Below are milliseconds of the layer and
# its gradient on the machine that ran this notebook, as it was at that time: an example of how to
# measure, not a result.

# %%
batch = jnp.asarray(rng.normal(size=(2, 2_048, 64)), jnp.float32)
milliseconds, gradients = {}, {}
for method in ("sequential", "associative"):
    timed = lru.LRU(64, method=method)
    weights = jax.jit(timed.init)(jax.random.key(0), batch)
    gradient = jax.jit(jax.grad(lambda w, module=timed: jnp.mean(module.apply(w, batch) ** 2)))
    gradients[method] = jax.block_until_ready(gradient(weights))  # compiled here
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        jax.block_until_ready(gradient(weights))
        seconds.append(time.perf_counter() - begin)
    milliseconds[method] = 1e3 * min(seconds)
for method in gradients:
    for ours, first in zip(*map(jax.tree.leaves, (gradients[method], gradients["sequential"]))):
        np.testing.assert_allclose(ours, first, rtol=1e-3, atol=1e-3)

figure, axis = plt.subplots(figsize=(7, 1.8))
axis.barh(list(milliseconds), list(milliseconds.values()), color="0.5")
axis.set(xlabel="milliseconds, forward and backward, on this machine")
axis.set(title=f"{jax.default_backend()}, B=2, T=2,048, H=N=64")
plt.show()
