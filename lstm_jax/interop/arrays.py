"""Helpers for all conversions: arrays of several libraries, gate blocks, and checks of names and shapes."""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.checks import check_array, check_axes
from lstm_jax._core.structs import Bidirectional, PyTree, wraps_array

Array = Any
"""A NumPy or JAX array."""


def unwrap_variables(tree: PyTree) -> PyTree:
    """Replaces each ``nnx.Variable``, or other leaf with ``__jax_array__``, by its array; arrays are unchanged."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if wraps_array(leaf) else leaf, tree, is_leaf=wraps_array)


def to_numpy(value: Any) -> Array:
    """Converts a PyTorch tensor, JAX array or ``nnx.Variable`` to a NumPy array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # PyTorch cannot convert it to NumPy; float32 holds it exactly
            return value.float().numpy().astype(jnp.bfloat16)
        return value.numpy()
    return np.asarray(value)


def to_jax(tree: PyTree, name: str = "weights") -> PyTree:
    """Converts the leaves of a tree to JAX arrays; raises ValueError if a dtype would be truncated.

    Args:
        tree: of arrays.
        name: for the message.
    """

    def convert(value: Any) -> jax.Array:
        if isinstance(value, jax.Array):
            return value
        host_array = to_numpy(value)
        array = jnp.asarray(host_array)
        if array.dtype != host_array.dtype:
            raise ValueError(
                f"{name}: got {host_array.dtype}, which JAX would cut to {array.dtype}; "
                "want float32 weights, or jax.config.update('jax_enable_x64', True)"
            )
        return array

    return jax.tree.map(convert, unwrap_variables(tree))


def join_gates(blocks: Sequence[Array]) -> Array:
    """Concatenates gate blocks along the last axis; NumPy blocks give a NumPy array."""
    return (jnp if isinstance(blocks[0], jax.Array) else np).concatenate(blocks, axis=-1)


def split_gates(slab: Array, num_gates: int) -> list[Array]:
    """Splits the last axis into ``num_gates`` equal blocks: the inverse of ``join_gates``.

    Args:
        slab: ``[..., GH]``.
        num_gates: G.
    """
    return (jnp if isinstance(slab, jax.Array) else np).split(slab, num_gates, axis=-1)


def reorder_gates(slab: Array, source: str, target: str) -> Array:
    """Permutes gate blocks along the last axis, from order ``source`` to order ``target``, one letter per gate.

    Args:
        slab: ``[..., GH]``.
        source: the order in the slab, one letter per gate.
        target: the order in the result.
    """
    blocks = split_gates(slab, len(source))
    return join_gates([blocks[source.index(letter)] for letter in target])


def strip_scopes(tree: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """Unwraps nested mappings as long as their only key is one of ``names``.

    Args:
        tree: nested mappings.
        names: of the scopes.
    """
    while len(tree) == 1 and next(iter(tree)) in names:
        (tree,) = tree.values()
    return tree


def check_keys(name: str, keys: Collection[str], wanted: Collection[str]) -> None:
    """Raises ValueError listing the missing and unexpected keys, unless ``keys`` equals ``wanted``.

    Args:
        name: for the message.
        keys: what is there.
        wanted: what must be there.
    """
    missing = sorted(set(wanted) - set(keys))
    unexpected = sorted(set(keys) - set(wanted))
    if missing or unexpected:
        faults = [f"no {', '.join(missing)}"] if missing else []
        faults += [f"unexpected {', '.join(unexpected)}"] if unexpected else []
        raise ValueError(f"{name}: got {' and '.join(faults)}, want {', '.join(sorted(wanted))}")


def flatten_cell_params(params: Any, axes: Mapping[str, str], unbox: str) -> dict[str, Any]:
    """Flattens and checks the parameters of a Flax cell.

    Args:
        params: the parameters of each submodule, ``{"gate": {"kernel": array}}``.
        axes: the axes of each required parameter, ``{"gate.kernel": "D H"}``; see ``checks.check_axes``.
        unbox: name of the framework's function that unboxes parameters, for the error message.
    Returns:
        JAX arrays by name, ``{"gate.kernel": array}``.
    Raises:
        ValueError: if a parameter is missing, unexpected, boxed or has the wrong shape.
    """
    if not isinstance(params, Mapping):
        raise ValueError(f"params: got {type(params).__name__}, want a mapping of the cell's parts")
    flat_params: dict[str, Any] = {}
    for module, leaves in params.items():
        is_module = hasattr(leaves, "items")
        flat_params |= {f"{module}.{name}": leaf for name, leaf in leaves.items()} if is_module else {module: leaves}
    check_keys("params", flat_params, axes)
    for name, leaf in flat_params.items():
        if not hasattr(leaf, "shape") or hasattr(leaf, "unbox"):
            raise ValueError(f"params['{name}']: got {type(leaf).__name__}, want arrays; see {unbox}")
    arrays: dict[str, Any] = to_jax(flat_params, "params")
    check_named_axes("params", arrays, axes)
    return arrays


def check_named_axes(name: str, arrays: Mapping[str, Array], axes: Mapping[str, str]) -> None:
    """Raises ValueError unless each named array has the shape given by ``axes[name]``; see ``checks.check_axes``.

    Args:
        name: for the message.
        arrays: by name.
        axes: of each array, such as ``"D 4H"``.
    """
    check_axes(
        {f"{name}[{key!r}]": array.shape for key, array in arrays.items()},
        {f"{name}[{key!r}]": letters for key, letters in axes.items()},
    )


def bias_or_zeros(bias: Array | None, like: Array, size: int) -> Array:
    """Returns the bias, or, if it is None, zeros ``[size]`` in the array library and dtype of ``like``.

    Args:
        bias: ``[size]`` or None.
        like: an array of the wanted library and dtype.
        size: of the zeros.
    """
    if bias is not None:
        return bias
    return jnp.zeros(size, like.dtype) if isinstance(like, jax.Array) else np.zeros(size, like.dtype)


def check_zero_bias(bias: Array, reason: str) -> None:
    """Raises ValueError unless the bias, which the target layer does not have, is 0.

    Args:
        bias: an array, or None.
        reason: why the target layer has none, for the message.
    """
    if np.any(to_numpy(bias)):
        raise ValueError(f"params: got a bias that is not 0, want 0: {reason}")


def check_layer_widths(layers: Sequence[PyTree]) -> None:
    """Raises ValueError unless the input size of each layer is the output size of the layer below."""
    for layer_index, (below, above) in enumerate(pairwise(layers), start=1):
        input_size = sum(params.recurrent_kernel.shape[0] for params in directions_of(below))
        for params in directions_of(above):
            kernel = params.input_kernel
            check_array(f"layers[{layer_index}].input_kernel", kernel, (input_size, kernel.shape[-1]))


def directions_of(layer: PyTree) -> tuple[PyTree, ...]:
    """Returns the parameters or states of a layer's directions: two for ``Bidirectional``, else one."""
    return tuple(layer) if isinstance(layer, Bidirectional) else (layer,)
