"""safetensors files: any tree of arrays, by the path of each leaf; needs ``pip install 'lstm_jax[interop]'``.

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
from lstm_jax.interop.arrays import check_keys, import_extra, to_jax, to_numpy, unwrap_variables


def save(path: str | Path, tree: PyTree) -> None:
    """Writes the arrays of a tree to a file, completely or not at all: an old file stays until the new one is complete.

    Args:
        path: the file to write.
        tree: any tree of arrays; the name of each is its path, joined by dots.
    Raises:
        ValueError: if two arrays have the same name.
        ImportError: if safetensors is not installed.

    Example:
        >>> import jax, lstm_jax as lj, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.safetensors"
        >>> lj.interop.safetensors.save(path, lj.init_stack(jax.random.key(0), 3, 8, 2))
        >>> sorted(lj.interop.safetensors.load_arrays(path))[:3]
        ['0.bias', '0.input_kernel', '0.recurrent_kernel']
    """
    serialize = import_extra("safetensors.numpy", "interop").save
    arrays = {name: np.ascontiguousarray(to_numpy(leaf)) for name, leaf in _named_leaves(tree).items()}
    partial_path = Path(f"{path}.part")
    try:
        partial_path.write_bytes(serialize(arrays, {"format": "lstm_jax"}))
        os.replace(partial_path, path)
    finally:
        partial_path.unlink(missing_ok=True)


def load(path: str | Path, like: PyTree) -> PyTree:
    """Reads the arrays of a file that ``save`` wrote as a tree.

    Args:
        path: the file.
        like: a tree of arrays or shapes, for example ``jax.eval_shape(lambda: lj.init_stack(key, 40, 256, 2))``.
    Returns:
        a tree of the structure of ``like``, its leaves arrays of JAX.
    Raises:
        ValueError: for a missing or unexpected array, or one of another shape or dtype.
        ImportError: if safetensors is not installed.

    Example:
        >>> import jax, lstm_jax as lj, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "layer.safetensors"
        >>> params = lj.init_params(jax.random.key(0), 3, 8)
        >>> lj.interop.safetensors.save(path, params)
        >>> lj.interop.safetensors.load(path, like=params).input_kernel.shape
        (3, 32)
    """
    like = unwrap_variables(like)
    arrays, wanted = load_arrays(path), _named_leaves(like)
    check_keys(str(path), arrays, wanted)
    for name, leaf in wanted.items():
        check_array(f"{path}: {name}", arrays[name], leaf.shape)
        if arrays[name].dtype != leaf.dtype:
            raise ValueError(f"{path}: {name}: got {arrays[name].dtype}, want {leaf.dtype}")
    leaves = [to_jax(arrays[name], f"{path}: {name}") for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Reads all arrays of any safetensors file by name, onto the host: a model's file holds more than its LSTM.

    Args:
        path: the file.
    Returns:
        NumPy arrays by name, in the dtypes of the file.
    Raises:
        ImportError: if safetensors is not installed.

    Example:
        >>> import lstm_jax as lj, numpy as np, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> lj.interop.safetensors.save(path, {"encoder": {"weight": np.ones(3)}})
        >>> lj.interop.safetensors.load_arrays(path)
        {'encoder.weight': array([1., 1., 1.])}
    """
    arrays: dict[str, np.ndarray] = import_extra("safetensors.numpy", "interop").load_file(path)
    return arrays


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves of a tree by their paths, joined by dots."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(unwrap_variables(tree))
    named: dict[str, Any] = {}
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name in named:
            raise ValueError(f"tree: got two arrays of the name {name!r}, want keys without a dot")
        named[name] = leaf
    return named
