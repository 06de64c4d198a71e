"""NNX modules that wrap Linen modules of this package.

They have the parameters and statistics of the Linen modules, with the same names, so parameters can
be copied both ways, as for `lru.nnx.LRU`. A mixer is given as a Linen module, such as
`lru.LRU(64)`, and the cell of a lattice as a class of Linen modules, such as `lru.lattice.LRUCell`.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from lru import lattice, models
from lru.layers.cells import TwoWayCell
from lru.models import blocks
from lru.ops.array_typing import Shape


class Wrapped(nnx.bridge.ToNNX):
    """Base class of NNX modules that wrap a Linen module, and have its variables as attributes.

    Random numbers come from the call's `rngs` or, by default, from those of the constructor.
    """

    def __init__(self, module: nn.Module, *inputs: Any, rngs: nnx.Rngs):
        super().__init__(module, rngs=rngs)
        self.lazy_init(*inputs)

    def __call__(self, *inputs: Any, train: bool | None = None, **call: Any) -> Any:
        """Applies the module, with the arguments of the Linen module.

        Args:
          inputs: the positional arguments.
          train: whether to use dropout and, in batch normalization, to use the statistics of the
            batch and update the running statistics; only for modules whose Linen call has this
            argument. None leaves the Linen module's default.
          call: the other keyword arguments; `rngs` replaces the random streams of the constructor.
        """
        if train is not None:
            call |= dict(train=train, mutable=["batch_stats"] if train else None)
        return super().__call__(*inputs, **call)


class ResidualBlock(Wrapped):
    """`lru.models.blocks.ResidualBlock` for NNX, from `(B, T, H)` to `(B, T, H)`.

    Args:
      in_features: H, the width of inputs and outputs.
      mixer: a Linen layer, or a function that makes a Linen layer, as in the Linen block.
      rngs: the random streams for the parameters and for dropout.
      options: the other attributes of the Linen block.

    Example:
      >>> import jax.numpy as jnp, lru
      >>> from flax import nnx
      >>> from lru.nnx import ResidualBlock
      >>> block = ResidualBlock(16, lru.LRU(64), norm="layer", rngs=nnx.Rngs(0))
      >>> block(jnp.ones((8, 100, 16))).shape
      (8, 100, 16)
    """

    def __init__(self, in_features: int, mixer: Any, *, rngs: nnx.Rngs, **options: Any):
        block = blocks.ResidualBlock(mixer, **options)
        super().__init__(block, jnp.zeros((1, 1, in_features)), rngs=rngs)


class SequenceClassifier(Wrapped):
    """`lru.models.SequenceClassifier` for NNX, for sequences of tokens or of feature vectors.

    Args:
      num_classes, d_model, num_layers, mixer: see `lru.models.SequenceClassifier`.
      vocab_size: V, if the inputs are tokens.
      in_features: the width of the inputs, if they are feature vectors.
      rngs: the random streams for the parameters and for dropout.
      options: the other attributes of the Linen model.

    Raises:
      ValueError: unless exactly one of `vocab_size` and `in_features` is given.

    Example:
      >>> import jax.numpy as jnp, lru
      >>> from flax import nnx
      >>> from lru.nnx import SequenceClassifier
      >>> model = SequenceClassifier(10, 8, 2, lru.LRU(16), vocab_size=18, rngs=nnx.Rngs(0))
      >>> model(jnp.ones((4, 50), int), seq_lengths=jnp.array([50, 3, 20, 7])).shape
      (4, 10)
    """

    def __init__(
        self,
        num_classes: int,
        d_model: int,
        num_layers: int,
        mixer: Any,
        *,
        vocab_size: int | None = None,
        in_features: int | None = None,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        if (vocab_size is None) == (in_features is None):
            raise ValueError(
                f"vocab_size={vocab_size} and in_features={in_features}; expected exactly one of "
                "them"
            )
        model = models.SequenceClassifier(
            num_classes, d_model, num_layers, mixer, vocab_size=vocab_size, **options
        )
        inputs = jnp.zeros((1, 1), int) if in_features is None else jnp.zeros((1, 1, in_features))
        super().__init__(model, inputs, rngs=rngs)


class LanguageModel(Wrapped):
    """`lru.models.LanguageModel` for NNX: logits of the next token at every step.

    Args:
      vocab_size, d_model: see `lru.models.LanguageModel`.
      rngs: the random streams for the parameters and for dropout.
      options: the other attributes of the Linen model, such as
        `stack=lru.lattice.Lattice(16, 2)`.
    """

    def __init__(self, vocab_size: int, d_model: int, *, rngs: nnx.Rngs, **options: Any):
        model = models.LanguageModel(vocab_size, d_model, **options)
        super().__init__(model, jnp.zeros((1, 1), int), rngs=rngs)


class Lattice(Wrapped):
    """`lru.lattice.Lattice` for NNX: a stack of the cells of the Lattice Recurrent Unit.

    Args:
      features: H, the width of inputs and outputs.
      num_layers: L, the number of layers.
      unit: the class of the cells: `lru.lattice.LRUCell`, `PSLRUCell` or `RGLRUCell`.
      rngs: the random streams for the parameters.
      options: the other attributes of `lru.lattice.Lattice`.
    """

    def __init__(
        self,
        features: int,
        num_layers: int,
        *,
        unit: type[TwoWayCell] = lattice.LRUCell,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        stack = lattice.Lattice(features, num_layers, unit=unit, **options)
        super().__init__(stack, jnp.zeros((1, 1, features)), rngs=rngs)


class LatticeCell(Wrapped, nnx.RNNCellBase):
    """A cell of the Lattice Recurrent Unit for NNX, for streams and `nnx.RNN`.

    Args:
      features: H, the width of inputs and outputs.
      unit: the class of the cell: `lru.lattice.LRUCell`, `PSLRUCell` or `RGLRUCell`.
      rngs: the random streams for the parameters.
      options: the other attributes of the unit.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from lru.nnx import LatticeCell
      >>> nnx.RNN(LatticeCell(16, rngs=nnx.Rngs(0)))(jnp.ones((8, 100, 16))).shape
      (8, 100, 16)
    """

    def __init__(
        self,
        features: int,
        *,
        unit: type[TwoWayCell] = lattice.LRUCell,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        cell, shape = unit(features, **options), (1, features)
        carry = cell.initialize_carry(jax.random.key(0), shape)
        super().__init__(cell, carry, jnp.zeros(shape), rngs=rngs)

    def initialize_carry(  # type: ignore[override]
        self, input_shape: Shape, rngs: Any = None, carry_init: Any = None
    ) -> Any:
        """Returns the zero carry for inputs of shape `(..., H)`; the other arguments are unused."""
        return self.to_nnx__module.initialize_carry(jax.random.key(0), input_shape)

    @property
    def num_feature_axes(self) -> int:
        return 1
