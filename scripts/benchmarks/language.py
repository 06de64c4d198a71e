"""The programs of `benchmark.py language`: language models from `configs/charlm_*.py`.

    candidate       program
    LRU, plain      the Lattice Recurrent Unit, layer by layer
    LRU, wavefront  the same unit, anti-diagonal by anti-diagonal
    products        only the matrix products of "LRU, plain"; see `products`
    GRU             `lru.baselines.GRU`
    nn.GRUCell      Flax's cell, as wide as "GRU", one `nn.RNN` for each layer
    linear LRU      residual blocks of the Linear Recurrent Unit

Models are built from their configs, whose widths give all of them about the same number of
parameters. A training step of a model computes a gradient and applies Adam. It donates all its
arguments except the labels.
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
from lru.ops.platform import product_precision
from lru.training.build import build as build_section
from lru.training.config import load_config
from lru.training.optimizer import OptimizerSettings, make_optimizer


@dataclasses.dataclass(frozen=True)
class Shape:
    """The shape of a training batch, and the size of a model.

    Attributes:
      variant: the name of a budget in `lru.training.recipes.charlm`, such as "10m".
      batch: the number of sequences, B.
      time: the number of steps, T.
      vocab_size: the number of tokens in the vocabulary, V.
      layers: the number of layers, L.
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
    """A stack of `nn.RNN(nn.GRUCell)` layers; ignores `reset`, and always returns the carries."""

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
    """Returns the names of the candidates; `kind` is not used."""
    return tuple(CANDIDATES)


def build(kind: str, candidate: str, part: str, shape: Shape) -> Program:
    """Builds the program of a candidate for a part (forward, gradient or step) and a shape.

    `kind` is not used.
    """
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
    make = products if candidate == "products" else functools.partial(_model, model, config)
    program = make(params, inputs, labels, part)
    exact = jax.default_matmul_precision(product_precision(config.train.matmul_precision))
    return dataclasses.replace(
        program, function=exact(program.function), tokens=inputs.size, record=record
    )


def _config(candidate: str, shape: Shape) -> ConfigDict:
    name, options = CANDIDATES[candidate]
    config = load_config(f"configs/charlm_{name}.py:{shape.variant},l{shape.layers}")
    with config.unlocked():
        config.model.mixer.update(options)
        if "type" in options:  # a stack that is not in `lru.layers.stacks`
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
    optimizer, _, _ = make_optimizer(params, 1, OptimizerSettings(**config.optimizer))

    def step(params, state, carry, inputs, labels):
        (_, carry), grads = gradient(params, carry, inputs, labels)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, carry, inputs, labels

    return Program(step, (params, optimizer.init(params), carry, inputs, labels), loops=True)


def products(params: Any, inputs: Any, labels: Any, part: str) -> Program:
    """Builds a program of only the lattice's matrix products: a lower bound on the lattice's time.

    Here h is the width, and (m, k) (k, n) is a product of matrices of these shapes. In the forward
    pass, a layer computes (T B, h) (h, 5h) for all steps at once. Each step then computes
    (B, h) (h, 5h) from the state, and (B, h) (h, h) twice from the result. The read-out after the
    layers is (T B, h) (h, V). The backward pass has two products for each of these. The first uses
    the transposed kernel; for the products of a step, it runs in a loop over the steps, in reverse
    order. The second is the gradient of the kernel, (h, T B) (T B, ...). It runs after the loop,
    for all steps at once, because no step of the loop needs it.

    Biases, gates, sums, the loss and the embedding are left out. Where a product would need the
    result of an elementwise operation, it takes another product of the same shape, or a slice or a
    concatenation of products. The part "step" is the same as "gradient": it omits Adam. The values
    have no meaning.
    """
    cell = LRUCell(params["head"]["kernel"].shape[0])
    layers = [cell.pack(layer) for _, layer in sorted(params["stack"].items())]
    embedded = params["encoder"]["embedding"][inputs.T]  # (T, B, h)
    states = jax.random.normal(jax.random.key(1), (len(layers), *embedded.shape[1:]))

    def apply_layers(layers, states, x):
        saved = []
        for weights, state in zip(layers, states):
            x, end, residuals = _layer_forward(weights, state, x)
            saved.append((end, residuals))
        return x, saved

    # Results that nothing else uses are returned; otherwise XLA would not compute them.
    def forward(layers, states, head, x):
        outputs, saved = apply_layers(layers, states, x)
        return outputs @ head, [(end, projected) for end, (_, projected, *_) in saved]

    def gradient(layers, states, head, x):
        outputs, saved = apply_layers(layers, states, x)
        logits = outputs @ head
        gradients = [_kernel_gradient(outputs, logits)]
        cotangent = logits @ head.T
        for weights, (end, residuals) in zip(reversed(layers), reversed(saved)):
            cotangent, others = _layer_backward(weights, end, residuals, cotangent)
            gradients.append(others)
        return cotangent, gradients

    function = forward if part == "forward" else gradient
    return Program(function, (layers, states, params["head"]["kernel"], embedded))


def _layer_forward(weights, state, x):
    """Returns the outputs, the state after the last step, and the residuals."""
    h = x.shape[-1]
    projected = x @ weights.input

    def step(state, _):
        recurrent = state @ weights.recurrent
        next_state = recurrent[:, :h] @ weights.reset_recurrent
        output = recurrent[:, h : 2 * h] @ weights.reset_input
        return next_state, (state, recurrent, output)

    end, (states, recurrent, outputs) = lax.scan(step, state, length=len(x))
    return outputs, end, (x, projected, states, recurrent)


def _layer_backward(weights, end, residuals, cotangents):
    """Returns the cotangents of the inputs, and the results that nothing else uses."""
    x, projected, states, recurrent = residuals
    h = x.shape[-1]

    def step(state, cotangent):
        first = state @ weights.reset_recurrent.T
        second = cotangent @ weights.reset_input.T
        both = jnp.concatenate([first, second, first, second, first], axis=-1)
        return both @ weights.recurrent.T, (state, both)

    start, (next_states, both) = lax.scan(step, end, cotangents, reverse=True)
    kernels = (
        _kernel_gradient(x, both),
        _kernel_gradient(states, both),
        _kernel_gradient(recurrent[..., :h], next_states),
        _kernel_gradient(recurrent[..., h : 2 * h], cotangents),
    )
    return both @ weights.input.T, (start, projected, kernels)


def _kernel_gradient(x, dy):
    """Returns the gradient with respect to w, given x and the cotangent of the product x w."""
    return jnp.tensordot(x, dy, axes=((0, 1), (0, 1)))
