"""safetensors files: any tree of arrays, by the path of each leaf; needs the package ``safetensors``.

``LSTMParams`` are stored as ``input_kernel``, ``recurrent_kernel``, ``bias``; a stack as ``0.input_kernel`` or
``0.forward.input_kernel`` and so on. A file in another framework's names goes through its conversion:

    layers = lj.interop.torch.import_lstm(lj.interop.safetensors.load_arrays("model.safetensors"), prefix="encoder.")
"""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lstm_jax._core.checks import check_array
from lstm_jax._core.structs import PyTree
from lstm_jax.interop.arrays import check_keys, to_jax, to_numpy


def save(path: str | Path, tree: PyTree) -> None:
    """Writes the arrays of a tree, whole or not at all: a file that is there stays until the new one is complete."""
    from safetensors.numpy import save as serialize

    part = Path(f"{path}.part")
    try:
        part.write_bytes(
            serialize(
                {name: np.ascontiguousarray(to_numpy(leaf)) for name, leaf in _named(tree).items()},
                {"format": "lstm_jax"},
            )
        )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load(path: str | Path, like: PyTree) -> PyTree:
    """The arrays of a file as a tree.

    Args:
        path: the file.
        like: a tree of arrays or shapes, for example ``jax.eval_shape(lambda: lj.init_stack(key, 40, 256, 2))``.
    Raises:
        ValueError: naming a missing, unexpected or misshapen array.
    """
    arrays, want = load_arrays(path), _named(like)
    check_keys(str(path), arrays, want)
    for name, leaf in want.items():
        check_array(f"{path}: {name}", arrays[name], leaf.shape)
        if arrays[name].dtype != leaf.dtype:
            raise ValueError(f"{path}: {name}: got {arrays[name].dtype}, want {leaf.dtype}")
    return jax.tree.unflatten(jax.tree.structure(like), [to_jax(arrays[name], f"{path}: {name}") for name in want])


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of any safetensors file by name, on the host: a model's file holds more than its LSTM."""
    from safetensors.numpy import load_file

    arrays: dict[str, np.ndarray] = load_file(path)
    return arrays


def _named(tree: PyTree) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    named: dict[str, Any] = {}
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name in named:
            raise ValueError(f"tree: got two arrays of the name {name!r}, want keys without a dot")
        named[name] = leaf
    return named
