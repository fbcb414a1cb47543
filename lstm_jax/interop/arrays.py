"""What the conversions share: arrays of any kind, blocks of gates, names that must be there."""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.checks import check_array, check_axes
from lstm_jax._core.structs import Bidirectional, PyTree

Array = Any
"""An array of NumPy or of JAX."""


def to_numpy(value: Any) -> Array:
    """A tensor of torch, an array of JAX or of NumPy, as an array of NumPy."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # a dtype that torch cannot hand to NumPy; float32 holds it exactly
            return value.float().numpy().astype(jnp.bfloat16)
        return value.numpy()
    return np.asarray(value)


def to_jax(tree: PyTree, name: str = "weights") -> PyTree:
    """The arrays of a tree as arrays of JAX, with no bit lost."""

    def convert(value: Any) -> jax.Array:
        if isinstance(value, jax.Array):
            return value
        host = to_numpy(value)
        array = jnp.asarray(host)
        if array.dtype != host.dtype:
            raise ValueError(
                f"{name}: got {host.dtype}, which JAX would cut to {array.dtype}; "
                "want float32 weights, or jax.config.update('jax_enable_x64', True)"
            )
        return array

    return jax.tree.map(convert, tree)


def concatenate(parts: Sequence[Array]) -> Array:
    """Side by side along the last axis; NumPy stays NumPy."""
    return (jnp if isinstance(parts[0], jax.Array) else np).concatenate(parts, axis=-1)


def split(slab: Array, count: int) -> list[Array]:
    """The inverse of ``concatenate``."""
    return (jnp if isinstance(slab, jax.Array) else np).split(slab, count, axis=-1)


def reorder(slab: Array, source: str, target: str) -> Array:
    """Blocks along the last axis from one order to another, each order one letter a block."""
    blocks = split(slab, len(source))
    return concatenate([blocks[source.index(letter)] for letter in target])


def without_scopes(tree: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """What lies inside mappings whose only key is one of the names."""
    while len(tree) == 1 and next(iter(tree)) in names:
        (tree,) = tree.values()
    return tree


def check_keys(name: str, got: Collection[str], wanted: Collection[str]) -> None:
    """Names each missing and each unexpected key."""
    missing, extra = sorted(set(wanted) - set(got)), sorted(set(got) - set(wanted))
    if missing or extra:
        faults = [f"no {', '.join(missing)}"] * bool(missing) + [f"unexpected {', '.join(extra)}"] * bool(extra)
        raise ValueError(f"{name}: got {' and '.join(faults)}, want {', '.join(sorted(wanted))}")


def arrays_of(params: Any, axes: Mapping[str, str], unbox: str) -> dict[str, Any]:
    """The arrays of a module's submodules by name, ``{"gate.kernel": "D H"}`` and nothing else, as arrays of JAX.

    Args:
        params: ``{"gate": {"kernel": array}}``.
        axes: see ``checks.check_axes``.
        unbox: what turns the framework's own variables into arrays.
    """
    if not isinstance(params, Mapping):
        raise ValueError(f"params: got {type(params).__name__}, want a mapping of the cell's parts")
    flat: dict[str, Any] = {}
    for module, parts in params.items():
        flat |= (
            {f"{module}.{part}": leaf for part, leaf in parts.items()} if hasattr(parts, "items") else {module: parts}
        )
    check_keys("params", flat, axes)
    for name, leaf in flat.items():
        if not hasattr(leaf, "shape") or hasattr(leaf, "get_metadata") or hasattr(leaf, "unbox"):
            raise ValueError(f"params['{name}']: got {type(leaf).__name__}, want arrays; see {unbox}")
    arrays: dict[str, Any] = to_jax(flat, "params")
    check_named("params", arrays, axes)
    return arrays


def check_named(name: str, arrays: Mapping[str, Array], axes: Mapping[str, str]) -> None:
    """``check_axes`` for the entries of a mapping."""
    check_axes(
        {f"{name}[{key!r}]": array.shape for key, array in arrays.items()},
        {f"{name}[{key!r}]": letters for key, letters in axes.items()},
    )


def zeros_if_missing(bias: Array | None, like: Array, size: int) -> Array:
    """A layer without bias is one whose bias is 0."""
    if bias is not None:
        return bias
    return jnp.zeros(size, like.dtype) if isinstance(like, jax.Array) else np.zeros(size, like.dtype)


def check_droppable(bias: Array, reason: str) -> None:
    """A bias that the other side has no place for is 0."""
    if np.any(to_numpy(bias)):
        raise ValueError(f"params: got a bias that is not 0, want 0: {reason}")


def check_chain(layers: Sequence[PyTree]) -> None:
    """Each layer reads what the one below it puts out."""
    for layer, (below, above) in enumerate(pairwise(layers), start=1):
        width = sum(params.recurrent_kernel.shape[0] for params in _directions(below))
        for params in _directions(above):
            check_array(f"layers[{layer}].input_kernel", params.input_kernel, (width, params.input_kernel.shape[-1]))


def _directions(params: PyTree) -> tuple[PyTree, ...]:
    return tuple(params) if isinstance(params, Bidirectional) else (params,)
