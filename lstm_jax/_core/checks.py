"""Argument checks at the border: each failure is a ValueError naming the argument, what it got, what it wants."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.structs import Inputs, PyTree

REMAT_NAMES = ("gates", "states")
BATCH_FIRST_HINT = "xs may be batch first, and time comes first here: xs.swapaxes(0, 1)"


def check_array(name: str, array: jax.Array | np.ndarray, shape: tuple[int, ...]) -> None:
    """Checks that an array has exactly this shape."""
    if array.shape != shape:
        raise ValueError(f"{name}: got shape {array.shape}, want {shape}")


def check_one_dtype(arrays: Mapping[str, jax.Array]) -> None:
    """Checks that all arrays share one floating dtype."""
    dtypes = {name: str(array.dtype) for name, array in arrays.items()}
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name}: got dtype {array.dtype}, want a floating dtype; cast it with {name}.astype(...)")
    if len(set(dtypes.values())) > 1:
        listing = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        odd = min(dtypes, key=lambda name: list(dtypes.values()).count(dtypes[name]))
        raise ValueError(f"{odd}: got dtype {dtypes[odd]}, want one floating dtype throughout; cast one of: {listing}")


def make_params_check(params_type: type, **axes: str) -> Callable[..., None]:
    """Makes a cell's ``check(params, xs)`` from the axes of its parameters.

    Args:
        params_type: the NamedTuple of the parameters.
        axes: each field's axes, ``input_kernel="D 4H"``: a letter alone before its multiples, the input kernel's ``D``
            among them. All fields are arrays of one floating dtype, that of ``xs``.
    """

    def check(params: PyTree, xs: jax.Array, name: str = "xs") -> None:
        is_stack = type(params) in (tuple, list) and len(params) > 0 and hasattr(params[0], "_fields")
        hint = "it is a stack of layers: give layers[0], or call lstm_stack or unroll_stack" if is_stack else ""
        check_type("params", params, params_type, hint)
        for field, leaf in params._asdict().items():
            hint = "of zeros for a missing bias" * ("bias" in field)
            check_type(f"params.{field}", leaf, jax.Array | np.ndarray, hint)
        shapes = {f"params.{field}": getattr(params, field).shape for field in axes}
        sizes = check_axes(shapes, {f"params.{field}": letters for field, letters in axes.items()})
        if xs.shape[-1] != sizes["D"]:
            raise ValueError(
                f"{name}: got {xs.shape[-1]} features on the last axis (shape {xs.shape}), want the {sizes['D']} of "
                "params.input_kernel"
            )
        check_one_dtype({name: xs, **{f"params.{field}": leaf for field, leaf in params._asdict().items()}})

    return check


def check_axes(shapes: Mapping[str, tuple[int, ...]], axes: Mapping[str, str]) -> dict[str, int]:
    """Each shape is that of its axes, ``"H 4H"``, a letter alone before its multiples; returns the letters' sizes.

    Axes without a shape are left out.
    """
    sizes: dict[str, int] = {}
    for name, shape in ((name, shapes[name]) for name in axes if name in shapes):
        letters = axes[name].split()
        new_sizes = {axis: size for axis, size in zip(letters, shape, strict=False) if len(axis) == 1}
        all_sizes = new_sizes | sizes
        if shape != tuple(int(axis[:-1] or 1) * all_sizes.get(axis[-1], -1) for axis in letters):
            given = ", ".join(f"{letter} = {size}" for letter, size in sizes.items() if letter in axes[name])
            raise ValueError(f"{name}: got shape {shape}, want [{', '.join(letters)}]" + f" with {given}" * bool(given))
        sizes = all_sizes
    return sizes


def check_init_args(key: Any, dtype: Any, **sizes: Any) -> None:
    """Checks the arguments of an initializer: a random key, a floating dtype, sizes of at least 1."""
    if not (isinstance(key, jax.Array | np.ndarray) and (key.ndim == 0 or key.dtype == jnp.uint32)):
        raise ValueError(f"key: got {key!r}, want a random key, for example jax.random.key(0)")
    for name, size in sizes.items():
        check_size(name, size)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"dtype: got {jnp.dtype(dtype).name}, want a floating dtype")


def check_size(name: str, size: Any) -> None:
    """Checks that a size is an integer of at least 1."""
    if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
        raise ValueError(f"{name}: got {size!r}, want an integer of at least 1")


def check_type(name: str, value: Any, wanted: Any, hint: str = "") -> None:
    """Checks that a value is of this type, or one of these."""
    if not isinstance(value, wanted):
        types = [each for each in getattr(wanted, "__args__", (wanted,)) if each is not type(None)]
        names = "an array" if jax.Array in types else " or ".join(each.__name__ for each in types)
        raise ValueError(f"{name}: got {_type_name(value)}, want {names}" + f"; {hint}" * bool(hint))


def check_cell_output(before: PyTree, after: Any) -> None:
    """Checks what a cell's ``update`` returned, as shapes, against the state before it."""
    if not isinstance(after, tuple) or len(after) != 2:
        raise ValueError(f"cell.update: got {_type_name(after)}, want the pair (state, y)")
    check_state("cell.update's state", after[0], before, broadcasts=False)
    for leaf in jax.tree.leaves(before):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"cell.zero_state: got a part of dtype {leaf.dtype}, want floating parts only")


def check_sequence(xs: Any, num_spatial_dims: int = 0) -> None:
    """Checks that the input is an array with a time axis, the spatial axes of the cell, and a feature axis."""
    axes = "[T, *batch, D]: time first, features last"
    if num_spatial_dims:
        letters = "X, Y, Z, "[: 3 * num_spatial_dims]
        axes = f"[T, *batch, {letters}D]: time first, {num_spatial_dims} spatial axes, features last"
    x, name, per_step = xs, "xs", []
    while isinstance(x, Inputs):
        per_step += [(f"{name}.per_step", leaf) for leaf in jax.tree.leaves(x.per_step)]
        x, name = x.x, f"{name}.x"
    check_type(name, x, jax.Array | np.ndarray, axes)
    if x.ndim < 2 + num_spatial_dims:
        raise ValueError(f"{name}: got shape {x.shape}, want {axes}")
    leading = x.shape[: -1 - num_spatial_dims]
    for part, leaf in per_step:
        if leaf.shape[: len(leading)] != leading:
            raise ValueError(f"{part}: got shape {leaf.shape}, want {leading} first, [T, *batch]")


def check_state(name: str, state: PyTree, like: PyTree, *, broadcasts: bool, time: int | None = None) -> None:
    """Checks that a state has the structure and dtypes of ``like``, and its shapes or ones that broadcast to them.

    Args:
        time: T of the inputs; a state that fits it instead of the batch means that the inputs are batch first.
    """
    if str(jax.tree.structure(state)) != str(jax.tree.structure(like)):
        wanted = type(like).__name__ if isinstance(like, tuple) else f"the cell's state, {jax.tree.structure(like)}"
        raise ValueError(f"{name}: got {_type_name(state)}, want {wanted}; see the cell's zero_state")
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    for (path, leaf), want in zip(leaves, jax.tree.leaves(like), strict=True):
        part = name + jax.tree_util.keystr(path)
        if broadcasts and not _broadcasts_to(leaf.shape, want.shape):
            raise ValueError(f"{part}: got shape {leaf.shape}, want one that broadcasts to {want.shape}")
        if not broadcasts and leaf.shape != want.shape:
            hint = "jnp.broadcast_to repeats a state"
            if time is not None and want.shape and leaf.shape == (time, *want.shape[1:]):
                hint = BATCH_FIRST_HINT
            raise ValueError(f"{part}: got shape {leaf.shape}, want {want.shape}; {hint}")
        if leaf.dtype != want.dtype:
            raise ValueError(f"{part}: got dtype {leaf.dtype}, want {want.dtype}")


def check_lengths(lengths: jax.Array | np.ndarray, batch_shape: tuple[int, ...], time: int) -> None:
    """Checks that lengths are integers ``[*batch]``, and in ``0..T`` where their values are known."""
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths: got dtype {lengths.dtype}, want an integer dtype")
    if lengths.shape != batch_shape:
        hint = f"; {BATCH_FIRST_HINT}" if len(batch_shape) == 1 and lengths.shape == (time,) else ""
        raise ValueError(
            f"lengths: got shape {lengths.shape}, want {batch_shape}, the batch axes of xs [T, *batch, D]{hint}"
        )
    if isinstance(lengths, jax.core.Tracer) or lengths.size == 0:
        return
    values = np.asarray(lengths)  # on the host: under an outer jit, jax operations on known values are traced
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > time:
        raise ValueError(f"lengths: got values from {low} to {high}, want 0 to T = {time}")


def check_flags(name: str, flags: jax.Array, shape: tuple[int, ...]) -> None:
    """Checks that flags are booleans ``[T, *batch]``."""
    if flags.dtype != jnp.bool_:
        raise ValueError(f"{name}: got dtype {flags.dtype}, want bool; write {name} != 0 if it holds 0 and 1")
    if len(shape) == 2 and flags.shape == shape[::-1] != shape:
        raise ValueError(f"{name}: got shape {flags.shape}, want {shape}, time first; {name}.swapaxes(0, 1) turns it")
    check_array(name, flags, shape)


def check_exclusive(lengths: Any, mask: Any, resets: Any, reset_state: Any) -> None:
    """Checks for options that contradict each other, or have no effect without another."""
    if lengths is not None and mask is not None:
        raise ValueError("mask: got both lengths and mask, want one of them; lengths_to_mask turns lengths into a mask")
    if reset_state is not None and resets is None:
        raise ValueError("reset_state: got one without resets, want resets as well; initial_state starts a sequence")


def check_layers(layers: Any) -> None:
    """Checks that ``layers`` is a tuple or list with each layer's parameters, not the tuple of one layer."""
    if hasattr(layers, "_fields") or not isinstance(layers, tuple | list) or not layers:
        got = type(layers).__name__ if layers or layers is None else "no layer"
        raise ValueError(f"layers: got {got}, want a tuple of each layer's parameters, lowest first; (params,) for one")


def check_remat(remat: Any) -> None:
    """Checks that ``remat`` is ``"gates"``, ``"states"``, a positive integer, or None."""
    is_name = isinstance(remat, str) and remat in REMAT_NAMES
    is_count = isinstance(remat, int | np.integer) and not isinstance(remat, bool) and remat >= 1
    if remat is not None and not is_name and not is_count:
        raise ValueError(f"remat: got {remat!r}, want one of {REMAT_NAMES}, a positive integer or None")


def check_name(name: str, value: Any, names: tuple[str | None, ...]) -> None:
    """Checks that a value is one of these names; None may be among them."""
    if not isinstance(value, str | None) or value not in names:
        listed = ", ".join(repr(each) for each in names if each is not None)
        raise ValueError(f"{name}: got {value!r}, want one of {listed}")


def _type_name(value: Any) -> str:
    arrays = jax.Array | np.ndarray | jax.ShapeDtypeStruct
    return "an array" if isinstance(value, arrays) else type(value).__name__


def _broadcasts_to(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, wanted) == wanted
    except ValueError:
        return False
