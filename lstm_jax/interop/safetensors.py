"""safetensors files of any tree of arrays; needs ``pip install 'lstm_jax[interop]'``.

Each array is stored under its path in the tree: ``LSTMParams`` as ``input_kernel``, ``recurrent_kernel`` and ``bias``,
a stack as ``0.input_kernel`` or ``0.forward.input_kernel``. Weights of another framework are loaded by name, then
converted:

    layers = lj.interop.torch.import_lstm(lj.interop.safetensors.load_arrays("model.safetensors"), prefix="encoder.")
"""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lstm_jax._core.checks import check_array
from lstm_jax._core.extras import import_extra
from lstm_jax._core.structs import PyTree
from lstm_jax.interop.arrays import check_keys, to_jax, to_numpy, unwrap_variables


def save(path: str | Path, tree: PyTree) -> None:
    """Writes the arrays of a tree to a file atomically: an existing file is replaced only by a complete new file.

    Args:
        path: the file to write.
        tree: any tree of arrays; the name of each array is its path in the tree, joined by dots.
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
    arrays = {name: np.ascontiguousarray(to_numpy(leaf)) for name, leaf in _name_leaves(tree).items()}
    partial_path = Path(f"{path}.part")
    try:
        partial_path.write_bytes(serialize(arrays, {"format": "lstm_jax"}))
        os.replace(partial_path, path)
    finally:
        partial_path.unlink(missing_ok=True)


def load(path: str | Path, like: PyTree) -> PyTree:
    """Reads a file written by ``save`` into a tree of JAX arrays.

    Args:
        path: the file to read.
        like: a tree of arrays or ``jax.ShapeDtypeStruct`` with the expected structure, shapes and dtypes, for example
            ``jax.eval_shape(lambda: lj.init_stack(key, 40, 256, 2))``.
    Returns:
        JAX arrays in the structure of ``like``.
    Raises:
        ValueError: if an array is missing, unexpected, or has the wrong shape or dtype.
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
    arrays = load_arrays(path)
    expected = _name_leaves(like)
    check_keys(str(path), arrays, expected)
    for name, leaf in expected.items():
        check_array(f"{path}: {name}", arrays[name], leaf.shape)
        if arrays[name].dtype != leaf.dtype:
            raise ValueError(f"{path}: {name}: got {arrays[name].dtype}, want {leaf.dtype}")
    leaves = [to_jax(arrays[name], f"{path}: {name}") for name in expected]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Reads all arrays of any safetensors file into host memory, by name.

    Args:
        path: the file to read.
    Returns:
        a dict of NumPy arrays by name, with the dtypes of the file.
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


def _name_leaves(tree: PyTree) -> dict[str, Any]:
    """Returns a dict of the leaves of a tree, keyed by their paths joined by dots."""
    paths_and_leaves, _ = jax.tree_util.tree_flatten_with_path(unwrap_variables(tree))
    leaves_by_name: dict[str, Any] = {}
    for path, leaf in paths_and_leaves:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name in leaves_by_name:
            raise ValueError(f"tree: got two arrays of the name {name!r}, want keys without a dot")
        leaves_by_name[name] = leaf
    return leaves_by_name
