"""What `benchmark.py language` measures: the language models of `configs/charlm_*.py`.

    candidate      program
    LRU, plain      the Lattice Recurrent Unit, layer by layer
    LRU, wavefront  the same, anti-diagonal by anti-diagonal
    products        the matrix products of "LRU, plain", and nothing else: see `products`
    GRU             `lru.baselines.GRU`
    nn.GRUCell      Flax's cell as wide as that, an `nn.RNN` a layer
    linear LRU      residual blocks of the Linear Recurrent Unit

Models are built from their configs, each at its own width for the same number of parameters. A
step is a gradient and Adam, from a state that is used up, the models' state in time included.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from ml_collections import ConfigDict

from benchmarks.programs import Program
from lru.lattice import LRUCell
from lru.models.streaming import zero_carry
from lru.training.config import build as build_section
from lru.training.config import load_config
from lru.training.optimizer import make_optimizer


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a training step reads, and the variant of the configs whose models read it.

    Attributes:
      variant: a budget of parameters.
      batch, time, vocab_size, layers: B, T, V, L.
    """

    variant: str
    batch: int = 100
    time: int = 50
    vocab_size: int = 51
    layers: int = 2


SHAPES = {"10m": Shape("10m"), "talk": Shape("talk"), "quick": Shape("quick", batch=20)}
PARTS = {"language": ("forward", "gradient", "step")}
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {
    "LRU, plain": ("lru", dict(order="plain")),
    "LRU, wavefront": ("lru", dict(order="wavefront")),
    "products": ("lru", {}),
    "GRU": ("gru", dict(order="plain")),
    "nn.GRUCell": ("gru", dict(type=f"{__name__}:FlaxGRU")),
    "linear LRU": ("linear_lru", {}),
}


class FlaxGRU(nn.Module):
    """Layers of `nn.RNN(nn.GRUCell)`, as a model's stack."""

    features: int
    num_layers: int
    dtype: Any = None
    causal = True

    @nn.compact
    def __call__(self, x, *, initial_carry=None, reset=None, return_carry, **call):
        carries = []
        for carry in initial_carry or [None] * self.num_layers:
            layer = nn.RNN(nn.GRUCell(self.features, dtype=self.dtype))
            carry, x = layer(x, initial_carry=carry, return_carry=True, **call)
            carries.append(carry)
        return carries, x


def candidates(kind: str) -> tuple[str, ...]:
    """The names that `build` knows."""
    return tuple(CANDIDATES)


def build(kind: str, candidate: str, part: str, shape: Shape) -> Program:
    """The program to measure."""
    config = _config(candidate, shape)
    model = build_section(config.model, "config.model", later=("vocab_size",))(shape.vocab_size)
    keys = jax.random.split(jax.random.key(0), 3)
    size = (shape.batch, shape.time)
    inputs, labels = (jax.random.randint(key, size, 0, shape.vocab_size) for key in keys[:2])
    params = jax.jit(model.init)(keys[2], inputs[:1, :1])["params"]
    record = {
        "d_model": config.model.d_model,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    }
    made = products if candidate == "products" else functools.partial(_model, model, config)
    program = made(params, inputs, labels, part)
    exact = jax.default_matmul_precision(config.train.matmul_precision)
    return dataclasses.replace(
        program, function=exact(program.function), tokens=inputs.size, record=record
    )


def _config(candidate: str, shape: Shape) -> ConfigDict:
    name, options = CANDIDATES[candidate]
    config = load_config(f"configs/charlm_{name}.py:{shape.variant},l{shape.layers}")
    with config.unlocked():
        config.model.mixer.update(options)
        if "type" in options:  # a stack of our own, not one of `lru.layers.stacks`
            config.model.stack = config.model.mixer
            del config.model.mixer
    return config


def _model(model, config, params, inputs, labels, part) -> Program:
    def apply(params, carry, inputs):
        return model.apply({"params": params}, inputs, initial_carry=carry, return_carry=True)

    carry = zero_carry(model, {"params": params}, inputs)
    if part == "forward":
        return Program(apply, (params, carry, inputs))

    def loss(params, carry, inputs, labels):
        carry, logits = apply(params, carry, inputs)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), carry

    gradient = jax.value_and_grad(loss, has_aux=True)
    if part == "gradient":
        return Program(gradient, (params, carry, inputs, labels))
    optimizer, _, _ = make_optimizer(params, 1, **config.optimizer)

    def step(params, state, carry, inputs, labels):
        (_, carry), grads = gradient(params, carry, inputs, labels)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, carry, inputs, labels

    return Program(step, (params, optimizer.init(params), carry, inputs, labels), loops=True)


def products(params: Any, inputs: Any, labels: Any, part: str) -> Program:
    """The matrix products of the lattice, layer by layer: what is left if all else is free.

    Forward, a layer has (T B, h) (h, 5h) for all steps at once, and then in each step, for what the
    state (B, h) gives: (B, h) (h, 5h), and of its outcome (B, h) (h, h) twice; after the layers
    comes the read-out, (T B, h) (h, V). Backward, each has one product with its kernel transposed,
    those of a step again in a loop, one waiting for the other as the recurrence has it; and one
    for its kernel's gradient, which no recurrence holds up: (h, T B) (T B, ...) after the loop.

    There are no biases, gates, sums, losses, and no embedding: where a product needs what something
    elementwise would give, it takes another product's outcome of that shape, as it is or cut out of
    it, or several side by side. A step is a gradient; there is no Adam. Numbers mean nothing.
    """
    cell = LRUCell(params["head"]["kernel"].shape[0])
    layers = [cell.pack(layer) for _, layer in sorted(params["stack"].items())]
    below = params["encoder"]["embedding"][inputs.T]  # (T, B, h)
    states = jax.random.normal(jax.random.key(1), (len(layers), *below.shape[1:]))

    def through(layers, states, below):
        kept = []
        for weights, state in zip(layers, states):
            below, end, of_layer = _layer_forward(weights, state, below)
            kept.append((end, of_layer))
        return below, kept

    # Whatever is not used otherwise is returned, or XLA would not compute it.
    def forward(layers, states, head, below):
        above, kept = through(layers, states, below)
        return above @ head, [(end, driven) for end, (_, driven, *_) in kept]

    def gradient(layers, states, head, below):
        above, kept = through(layers, states, below)
        logits = above @ head
        gradients = [_kernel(above, logits)]
        above = logits @ head.T
        for weights, (end, of_layer) in zip(reversed(layers), reversed(kept)):
            above, rest = _layer_backward(weights, end, of_layer, above)
            gradients.append(rest)
        return above, gradients

    function = forward if part == "forward" else gradient
    return Program(function, (layers, states, params["head"]["kernel"], below))


def _layer_forward(weights, state, below):
    """What rises, the state after the last step, and the operands of the backward pass."""
    h = below.shape[-1]
    driven = below @ weights.below

    def step(state, _):
        across = state @ weights.before
        after = across[:, :h] @ weights.reset_before
        above = across[:, h : 2 * h] @ weights.reset_below
        return after, (state, across, above)

    end, (states, across, above) = lax.scan(step, state, length=len(below))
    return above, end, (below, driven, states, across)


def _layer_backward(weights, end, kept, above):
    """The derivatives by what came from below, and by all else."""
    below, driven, states, across = kept
    h = below.shape[-1]

    def step(state, above):
        first = state @ weights.reset_before.T
        second = above @ weights.reset_below.T
        both = jnp.concatenate([first, second, first, second, first], axis=-1)
        return both @ weights.before.T, (state, both)

    start, (states_after, both) = lax.scan(step, end, above, reverse=True)
    kernels = (
        _kernel(below, both),
        _kernel(states, both),
        _kernel(across[..., :h], states_after),
        _kernel(across[..., h : 2 * h], above),
    )
    return both @ weights.below.T, (start, driven, kernels)


def _kernel(x, dy):
    """The gradient of w, of x w."""
    return jnp.tensordot(x, dy, axes=((0, 1), (0, 1)))
