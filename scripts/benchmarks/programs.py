"""The programs of `benchmark.py`, by kind, candidate, part and shape.

    kind        candidates                                      parts
    model       CANDIDATES, LIMITS                              forward, gradient, step
    layer       CANDIDATES, LIMITS                              forward, gradient
    recurrence  the methods of `lru.linear_recurrence`, a copy  forward, gradient
    stream      CANDIDATES, except "Appendix A" and "GRU"       step

A gradient is taken with respect to the parameters and, for a layer or a recurrence, the inputs. A
training step of a model computes a gradient, applies AdamW and updates the statistics of batch
normalization. It donates all its arguments except the key. For `LIMITS`, the part "step" is the
same as "gradient". A step of a stream reads one step of one sequence.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from paper.lra import SPEED

import lru
from lru.baselines import S4D, S5, DenseRNN
from lru.layers.reference import AppendixA
from lru.models import SequenceClassifier
from lru.models.streaming import stream
from lru.ops import recurrence
from lru.training.config import load_config


@dataclasses.dataclass(frozen=True)
class Shape:
    """The sizes and options of a program.

    Attributes:
      batch: the number of sequences, B.
      time, d_model, d_state, layers: the sizes T, H, N and L.
      vocab_size: V; 0 if each step of the input is a vector of numbers.
      features: the length of these vectors.
      dropout, glu: options of `lru.models.SequenceClassifier`.
      bidirectional, r_min, r_max, max_phase: options of `lru.LRU`.
      paper_batch: the number of sequences in a batch of the task's config; 0 if not a task's shape.
      paper_steps_per_second: training steps per second of the LRU on an A100, with the paper's
        batch, from Table 4 of Orvieto et al. (2023); 0 if not a task's shape.
    """

    batch: int
    time: int
    d_model: int
    d_state: int
    layers: int = 6
    vocab_size: int = 0
    features: int = 1
    dropout: float = 0.0
    bidirectional: bool = False
    glu: str = "full"
    r_min: float = 0.0
    r_max: float = 0.99
    max_phase: float = 2 * math.pi
    paper_batch: int = 0
    paper_steps_per_second: float = 0.0


def _task_shape(task: str, batch: int, time: int, sequences: int = 1, **inputs: int) -> Shape:
    """Returns the shape of a task, with widths, depth and options from the task's config.

    Args:
      task: the task, as in the name of its config.
      batch: B, the number of sequences to run.
      time: T.
      sequences: the number of sequences in each example. The shape's `paper_batch` is this number
        times the config's batch size.
      **inputs: `vocab_size`, or `features` if it is not 1.
    """
    config = load_config(f"configs/lra_{task}.py")
    model, mixer = config.model, config.model.mixer
    return Shape(
        batch,
        time,
        model.d_model,
        mixer.d_state,
        model.num_layers,
        **inputs,
        dropout=model.dropout,
        bidirectional=mixer.bidirectional,
        glu=model.glu,
        r_min=mixer.r_min,
        r_max=mixer.r_max,
        max_phase=mixer.max_phase,
        paper_batch=sequences * config.train.batch_size,
        paper_steps_per_second=float(SPEED[task, "lru"]),
    )


SHAPES = {
    "scifar": _task_shape("cifar", 2, 1024, features=3),
    "listops": _task_shape("listops", 4, 2048, vocab_size=18),
    "text": _task_shape("text", 2, 4096, vocab_size=135),
    "retrieval": _task_shape("retrieval", 4, 4000, sequences=2, vocab_size=98),
    "pathfinder": _task_shape("pathfinder", 4, 1024),
    "pathx": _task_shape("pathx", 1, 16384),
    # Path-X's length and widths, in the block of most other tasks: one direction, the full GLU.
    "pathx_length": Shape(1, 16384, 128, 256, r_min=0.999, r_max=0.9999),
    # For the plot of time and memory against length.
    "long": Shape(1, 4096, 32, 64, layers=2, features=1, r_min=0.9, r_max=0.999),
}


class Gru(nn.Module):
    """`nn.RNN(nn.GRUCell)` as a mixer as wide as its inputs; ignores `d_state` and `reset`."""

    d_state: int

    @nn.compact
    def __call__(self, x, *, reset=None, **call):
        return nn.RNN(nn.GRUCell(x.shape[-1]))(x, **call)


METHODS = ("copy", *recurrence.METHODS)

# A lower bound besides `LIMITS`: the layer with the product a * x instead of the recurrence.
ELEMENTWISE: Any = "elementwise"
recurrence.METHODS[ELEMENTWISE] = lambda a, x, h0, reset, reverse: a * x

# "kept": states are saved for the backward pass. Existing records contain these names.
_SAVED = dict(remat=False)
CANDIDATES: dict[str, tuple[Any, dict[str, Any]]] = {
    "lru": (lru.LRU, dict(remat=True)),
    "lru, kept": (functools.partial(lru.LRU, chunk_size=0), _SAVED),
    "lru, associative": (functools.partial(lru.LRU, chunk_size=0, method="associative"), _SAVED),
    "lru, pallas": (functools.partial(lru.LRU, chunk_size=0, method="pallas"), _SAVED),
    "Appendix A": (AppendixA, _SAVED),
    "elementwise": (functools.partial(lru.LRU, method=ELEMENTWISE), dict(remat=True)),
    "elementwise, kept": (
        functools.partial(lru.LRU, chunk_size=0, method=ELEMENTWISE), _SAVED,
    ),
    "S4D": (S4D, _SAVED),
    "S5": (S5, dict(remat=True)),
    "S5, kept": (functools.partial(S5, chunk_size=0), _SAVED),
    "GRU": (Gru, _SAVED),
    "tanh": (functools.partial(DenseRNN, activation="tanh"), _SAVED),
}  # fmt: skip
PARTS = {
    "model": ("forward", "gradient", "step"),
    "layer": ("forward", "gradient"),
    "recurrence": ("forward", "gradient"),
    "stream": ("step",),
}
LIMITS = ("products", "products, again")
"""Two lower bounds: the matrix products of the layers alone; and the same with the forward products
repeated in the backward pass, as in rematerialization."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A function to measure, and its arguments.

    Attributes:
      function: the function to compile.
      arguments: the arguments of the first call.
      loops: whether the first results of a call are the arguments of the next call. If so, all
        arguments but the last are donated.
      calls: the number of calls in one measurement; the measured time is divided by this number.
      moved: the least number of bytes that the forward pass of a recurrence, or a copy, reads and
        writes; 0 for other programs.
      tokens: the number of tokens read, for a language model; else 0.
      record: further entries of the program's row.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    loops: bool = False
    calls: int = 1
    moved: int = 0
    tokens: int = 0
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def candidates(kind: str) -> tuple[str, ...]:
    """Returns the names of the candidates for a kind of program.

    For the kind "stream", not all of them have a program; see the table in the module's docstring.
    """
    return METHODS if kind == "recurrence" else (*CANDIDATES, *LIMITS)


def build(kind: str, candidate: str, part: str, shape: Shape) -> Program:
    """Builds the program of a candidate for a kind, a part and a shape."""
    if candidate in LIMITS:
        return _products(kind, part, shape, again=candidate == LIMITS[1])
    programs = {"model": _model, "layer": _layer, "recurrence": _recurrence, "stream": _stream}
    return programs[kind](candidate, part, shape)


def _mixer(candidate, shape):
    mixer, options = CANDIDATES[candidate]
    module = mixer.func if isinstance(mixer, functools.partial) else mixer
    known = {field.name for field in dataclasses.fields(module)}
    names = known & {"bidirectional", "r_min", "r_max", "max_phase"}
    own = {name: getattr(shape, name) for name in names}
    return functools.partial(mixer, shape.d_state, **own), options


def _classifier(candidate, shape):
    mixer, options = _mixer(candidate, shape)
    return SequenceClassifier(
        10,
        d_model=shape.d_model,
        num_layers=shape.layers,
        mixer=mixer,
        vocab_size=shape.vocab_size or None,
        dropout=shape.dropout,
        glu=shape.glu,
        **options,
    )


def _model(candidate, part, shape):
    model = _classifier(candidate, shape)
    inputs, labels = _data(shape), jnp.zeros(shape.batch, int)
    variables = jax.jit(model.init)(jax.random.key(0), inputs[:, :16])
    params, rest = variables["params"], {"batch_stats": variables["batch_stats"]}
    if part == "forward":
        return Program(lambda v, x: model.apply(v, x), (variables, inputs))

    def loss(params, rest, inputs, labels, key):
        logits, updated = model.apply(
            {"params": params} | rest, inputs, train=True,
            mutable=["batch_stats"], rngs={"dropout": key},
        )  # fmt: skip
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), updated

    gradient = jax.value_and_grad(loss, has_aux=True)
    key = jax.random.key(1)
    if part == "gradient":
        return Program(gradient, (params, rest, inputs, labels, key))
    optimizer = optax.adamw(1e-4)

    def step(params, rest, state, inputs, labels, key):
        (_, rest), grads = gradient(params, rest, inputs, labels, key)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), rest, state, inputs, labels, key

    state = optimizer.init(params)
    return Program(step, (params, rest, state, inputs, labels, key), loops=True)


def _data(shape):
    key = jax.random.key(2)
    if shape.vocab_size:
        return jax.random.randint(key, (shape.batch, shape.time), 0, shape.vocab_size)
    return jax.random.normal(key, (shape.batch, shape.time, shape.features))


def _stream(candidate, part, shape):
    model = _classifier(candidate, shape)
    inputs = _data(dataclasses.replace(shape, batch=1, time=1))
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    step, carry = stream(model, variables, inputs)

    def forward(carry, x):
        carry, logits = step(carry, x)
        return carry, x, logits

    return Program(forward, (carry, inputs), loops=True, calls=2000)


def _layer(candidate, part, shape):
    layer = _mixer(candidate, shape)[0]()
    u = jax.random.normal(jax.random.key(2), (shape.time, shape.batch, shape.d_model))
    variables = jax.jit(functools.partial(layer.init, time_major=True))(jax.random.key(0), u[:16])

    def forward(variables, u):
        return layer.apply(variables, u, time_major=True)

    return Program(_with_part(forward, part), (variables, u))


def _recurrence(method, part, shape):
    keys = jax.random.split(jax.random.key(0), 4)
    size = (shape.time, shape.batch, shape.d_state)
    x = jax.lax.complex(*(jax.random.normal(key, size) for key in keys[:2]))
    a = 0.99 * jnp.exp(1j * jax.random.uniform(keys[2], (1, 1, shape.d_state)))

    def forward(a, x):
        if method == "copy":
            return x + 1
        return recurrence.recur(a, x, None, None, False, method)[0]

    moved = 2 * x.nbytes if part == "forward" else 0
    return Program(_with_part(forward, part), (a, x), moved=moved)


def _with_part(forward, part):
    """Returns `forward` or, for the part "gradient", the function that computes its gradients.

    The outputs of `forward` serve as the cotangents.
    """

    def gradient(*arguments):
        y, pull = jax.vjp(forward, *arguments)
        return pull(y)

    return forward if part == "forward" else gradient


def _products(kind, part, shape, again):
    """Builds the products h = x w, y = h c and, for a model, z = y g, without a recurrence.

    The rows are multiplied in chunks, so that memory traffic does not limit the speed.
    """
    directions = 2 if shape.bidirectional else 1
    rows, d_model, d_state = shape.time * shape.batch, shape.d_model, shape.d_state
    chunk = math.gcd(rows, 1024)
    sizes = {"w": (d_model, 2 * d_state), "c": (2 * directions * d_state, d_model)}
    if kind == "model":
        sizes["g"] = (d_model, d_model * (2 if shape.glu == "full" else 1))
    keys = jax.random.split(jax.random.key(0), len(sizes))
    weights = {name: jax.random.normal(k, s) / 16 for k, (name, s) in zip(keys, sizes.items())}
    x = jax.random.normal(keys[0], (rows // chunk, chunk, d_model))

    def forward(weights, x):
        h = jnp.concatenate([x @ weights["w"]] * directions, -1)
        y = h @ weights["c"]
        return (y @ weights["g"])[:, :d_model] if "g" in weights else y

    def backward(total, x):
        y, pull = jax.vjp(forward, weights, x)
        if again:  # with another input, because XLA would merge identical products
            y += forward(weights, jnp.abs(x))
        grads, dx = pull(y)
        return jax.tree.map(jnp.add, total, grads), dx

    def layers(weights, x):
        count = shape.layers if kind == "model" else 1
        if part == "forward":
            return jax.lax.fori_loop(
                0, count, lambda _, x: jax.lax.map(functools.partial(forward, weights), x), x
            )
        zero = jax.tree.map(jnp.zeros_like, weights)
        return jax.lax.fori_loop(
            0, count, lambda _, c: jax.lax.scan(backward, c[0], c[1]), (zero, x)
        )

    return Program(layers, (weights, x))
