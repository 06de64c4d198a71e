"""Writes and reads a model's variables as one safetensors file, without pickle.

Each tensor is named by its path, such as `params/stack/blocks_0/mixer/nu_log`, and stored
unchanged. `read_weights` checks names, shapes and types.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lru.errors import UserError
from lru.io.files import write_atomically


def write_weights(file: Path, variables: Any, metadata: Mapping[str, str]) -> None:
    """Writes variables and metadata to a file.

    Args:
      file: the file to write.
      variables: nested dicts of arrays, as returned by `flax.linen.Module.init`.
      metadata: the strings to store with the variables, by name.
    """
    tensors = {name: np.asarray(x) for name, x in by_path(variables).items()}
    # Not `save_file`, because only the owner can read the file that it creates.
    write_atomically(file, save(tensors, dict(metadata)))


def read_weights(file: Path, shapes: Any) -> tuple[Any, dict[str, str]]:
    """Reads variables and metadata from a file.

    Args:
      file: a file that `write_weights` has written.
      shapes: the variables' shapes and types, in nested dicts, as returned by `jax.eval_shape` of
        a model's `init`.

    Returns:
      `(variables, metadata)`, as written.

    Raises:
      UserError: if the file is missing or damaged, lacks a tensor, has a tensor that is not in the
        model, or has a tensor of the wrong shape or type.

    Example:
      >>> import tempfile
      >>> variables = {"params": {"D": jnp.array([0.5, 2.0])}}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     file = Path(folder) / "model.safetensors"
      ...     write_weights(file, variables, {"trained on": "nothing"})
      ...     read_weights(file, variables)
      ({'params': {'D': Array([0.5, 2. ], dtype=float32)}}, {'trained on': 'nothing'})
    """
    tensors, metadata = read_tensors(file)
    expected = by_path(shapes)
    if missing := sorted(expected.keys() - tensors.keys()):
        raise UserError(f"{file} lacks {missing[0]}, which the model needs; {_ADVICE}")
    if odd := sorted(tensors.keys() - expected.keys()):
        raise UserError(f"{file} has {odd[0]}, which the model does not have; {_ADVICE}")
    for name, want in expected.items():
        found, expects = array_type(tensors[name]), array_type(want)
        if found != expects:
            raise UserError(f"{file}: {name} is {found}; expected {expects}; {_ADVICE}")
    arrays = [jnp.asarray(tensors[name]) for name in expected]
    return jax.tree.unflatten(jax.tree.structure(shapes), arrays), metadata


_ADVICE = "export the model again, or use the config.json from the same export"


def by_path(tree: Any) -> dict[str, Any]:
    """Returns the leaves of nested dicts by name: a leaf at the path a, b, c is named `a/b/c`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def read_tensors(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads all arrays of a file, by name, and the metadata of the file.

    Unlike `read_weights`, this function needs no shapes, and checks none.

    Raises:
      UserError: if the file is missing or damaged.
    """
    if not file.is_file():
        raise UserError(f"{file} is missing; give a folder that lru.export has written")
    try:
        with safe_open(file, "numpy") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.offset_keys()}
            return tensors, opened.metadata() or {}
    except SafetensorError as error:
        raise UserError(f"{file} is damaged ({error}); export it again") from error


def array_type(array: Any) -> str:
    """Returns the type and the shape of an array as text.

    Example:
      >>> array_type(jnp.zeros((2, 3)))
      'float32[2, 3]'
    """
    return f"{np.dtype(array.dtype).name}{list(array.shape)}"
