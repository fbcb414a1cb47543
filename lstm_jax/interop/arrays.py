"""Arrays of several libraries, blocks of gates, and checks of names and shapes, for all conversions."""

import importlib
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.checks import check_array, check_axes
from lstm_jax._core.structs import Bidirectional, PyTree

Array = Any
"""An array of NumPy or of JAX."""


def import_extra(name: str, extra: str) -> ModuleType:
    """Imports a package that is not required, or names the extra of this package that installs it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.split(".")[0]
        raise ImportError(f"this function needs {package}: pip install 'lstm_jax[{extra}]'") from error


def unwrap_variables(tree: PyTree) -> PyTree:
    """Replaces each ``nnx.Variable``, and all else with ``__jax_array__``, by its array; arrays stay as they are."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if _is_variable(leaf) else leaf, tree, is_leaf=_is_variable)


def _is_variable(value: Any) -> bool:
    return hasattr(value, "__jax_array__") and not isinstance(value, jax.Array)


def to_numpy(value: Any) -> Array:
    """Converts a tensor of PyTorch, or an array or variable of JAX, to an array of NumPy."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # a dtype that torch cannot hand to NumPy; float32 holds it exactly
            return value.float().numpy().astype(jnp.bfloat16)
        return value.numpy()
    return np.asarray(value)


def to_jax(tree: PyTree, name: str = "weights") -> PyTree:
    """Converts the arrays of a tree to arrays of JAX; raises ValueError where that would lose bits."""

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
    """Joins blocks along the last axis; blocks of NumPy give an array of NumPy."""
    return (jnp if isinstance(blocks[0], jax.Array) else np).concatenate(blocks, axis=-1)


def split_gates(slab: Array, num_gates: int) -> list[Array]:
    """Splits the last axis into as many blocks: the inverse of ``join_gates``."""
    return (jnp if isinstance(slab, jax.Array) else np).split(slab, num_gates, axis=-1)


def reorder_gates(slab: Array, source: str, target: str) -> Array:
    """Moves the blocks along the last axis from one order to another, each order with one letter a block."""
    blocks = split_gates(slab, len(source))
    return join_gates([blocks[source.index(letter)] for letter in target])


def strip_scopes(tree: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """Returns what lies inside mappings whose only key is one of the names."""
    while len(tree) == 1 and next(iter(tree)) in names:
        (tree,) = tree.values()
    return tree


def check_keys(name: str, keys: Collection[str], wanted: Collection[str]) -> None:
    """Raises ValueError that lists each missing and each unexpected key, if there are any."""
    missing, extra = sorted(set(wanted) - set(keys)), sorted(set(keys) - set(wanted))
    if missing or extra:
        faults = [f"no {', '.join(missing)}"] * bool(missing) + [f"unexpected {', '.join(extra)}"] * bool(extra)
        raise ValueError(f"{name}: got {' and '.join(faults)}, want {', '.join(sorted(wanted))}")


def flatten_cell_params(params: Any, axes: Mapping[str, str], unbox: str) -> dict[str, Any]:
    """Returns the arrays of a Flax cell as arrays of JAX by the names ``"gate.kernel"``, after checking them.

    Args:
        params: the parameters of each submodule, ``{"gate": {"kernel": array}}``.
        axes: every name that must be there with its axes, ``{"gate.kernel": "D H"}``; see ``checks.check_axes``.
        unbox: the function of the framework that turns its boxes into arrays, for the message about a box.
    """
    if not isinstance(params, Mapping):
        raise ValueError(f"params: got {type(params).__name__}, want a mapping of the cell's parts")
    flat: dict[str, Any] = {}
    for module, leaves in params.items():
        is_module = hasattr(leaves, "items")
        flat |= {f"{module}.{name}": leaf for name, leaf in leaves.items()} if is_module else {module: leaves}
    check_keys("params", flat, axes)
    for name, leaf in flat.items():
        if not hasattr(leaf, "shape") or hasattr(leaf, "unbox"):
            raise ValueError(f"params['{name}']: got {type(leaf).__name__}, want arrays; see {unbox}")
    arrays: dict[str, Any] = to_jax(flat, "params")
    check_named_axes("params", arrays, axes)
    return arrays


def check_named_axes(name: str, arrays: Mapping[str, Array], axes: Mapping[str, str]) -> None:
    """Raises ValueError unless each array of the mapping has the axes of its name, as ``check_axes`` does."""
    check_axes(
        {f"{name}[{key!r}]": array.shape for key, array in arrays.items()},
        {f"{name}[{key!r}]": letters for key, letters in axes.items()},
    )


def bias_or_zeros(bias: Array | None, like: Array, size: int) -> Array:
    """Returns the bias, or zeros of this size for a layer without one, in the library and dtype of ``like``."""
    if bias is not None:
        return bias
    return jnp.zeros(size, like.dtype) if isinstance(like, jax.Array) else np.zeros(size, like.dtype)


def check_zero_bias(bias: Array, reason: str) -> None:
    """Raises ValueError unless a bias that the other framework has no place for is 0."""
    if np.any(to_numpy(bias)):
        raise ValueError(f"params: got a bias that is not 0, want 0: {reason}")


def check_layer_widths(layers: Sequence[PyTree]) -> None:
    """Raises ValueError unless each layer reads as many features as the layer below it outputs."""
    for layer, (below, above) in enumerate(pairwise(layers), start=1):
        width = sum(params.recurrent_kernel.shape[0] for params in directions_of(below))
        for params in directions_of(above):
            check_array(f"layers[{layer}].input_kernel", params.input_kernel, (width, params.input_kernel.shape[-1]))


def directions_of(layer: PyTree) -> tuple[PyTree, ...]:
    """Returns a layer's parameters, or its states, as a tuple: of two if it is ``Bidirectional``, else of one."""
    return tuple(layer) if isinstance(layer, Bidirectional) else (layer,)
