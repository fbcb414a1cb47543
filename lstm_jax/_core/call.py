"""The arguments of a call: checked against each other, turned into arrays, and completed."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core import checks, engine
from lstm_jax._core.implementations.table import TABLE
from lstm_jax._core.steps import StepFlags, lengths_to_mask, step_flags
from lstm_jax._core.structs import Cell, PyTree, SequenceOptions, input_sequence, wraps_array


class Call(NamedTuple):
    """The array arguments of a call, checked against each other."""

    params: PyTree
    xs: jax.Array
    initial_state: PyTree | None
    lengths: jax.Array | None
    mask: jax.Array | None
    resets: jax.Array | None
    reset_state: PyTree | None


def check_call(cell: Cell, params: PyTree, xs: Any, initial_state: PyTree | None, options: SequenceOptions) -> Call:
    """Converts the arguments of a call to arrays; raises ValueError naming the one that is wrong."""
    checks.check_type("cell", cell, Cell, "for example cells.GRU, or CELLS[name]")
    checks.check_type("reverse", options.reverse, bool, "a Python value, since it decides what is compiled")
    checks.check_remat(options.remat)
    checks.check_name("implementation", options.implementation, (None, *TABLE))
    checks.check_exclusive(options.lengths, options.mask, options.resets, options.reset_state)
    params, xs, initial_state, reset_state = to_jax((params, xs, initial_state, options.reset_state))
    checks.check_sequence(xs, cell.num_spatial_dims)
    lengths, mask, resets = map(to_array, (options.lengths, options.mask, options.resets))
    cell.check(params, xs)
    shape = input_sequence(xs).shape
    time, *batch = shape[: -1 - cell.num_spatial_dims]
    zeros = zero_state_shapes(cell, params, shape[1:-1])
    if lengths is not None:
        checks.check_lengths(lengths, tuple(batch), time)
    if initial_state is not None:
        checks.check_state("initial_state", initial_state, zeros, broadcasts=False, time=time)
    if reset_state is not None:
        checks.check_state("reset_state", reset_state, zeros, broadcasts=True)
    for name, flags in (("mask", mask), ("resets", resets)):
        if flags is not None:
            checks.check_flags(name, flags, (time, *batch))
    return Call(params, xs, initial_state, lengths, mask, resets, reset_state)


def complete_call(cell: Cell, call: Call, reverse: bool) -> tuple[PyTree, StepFlags, PyTree]:
    """Fills in defaults: returns the initial state, the flags of each step, and the reset state or None."""
    shape = input_sequence(call.xs).shape
    zeros = cell.zero_state(call.params, shape[1:-1])
    state = zeros if call.initial_state is None else call.initial_state
    mask, reset_state = call.mask, call.reset_state
    if call.lengths is not None:
        mask = lengths_to_mask(call.lengths, shape[0])
    if reset_state is not None:
        reset_state = jax.tree.map(lambda leaf, zero: jnp.broadcast_to(leaf, zero.shape), reset_state, zeros)
    elif mask is not None or call.resets is not None:
        reset_state = zeros
    return state, step_flags(mask, call.resets, reverse=reverse), reset_state


def step_shapes(cell: Cell, call: Call, state: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the shapes of (state, y) after one step, checked against the state before it."""

    def one_step_of(leaf: jax.Array) -> jax.Array:
        return leaf.sum(axis=0, dtype=leaf.dtype)  # of no length too, and sharded as a step is

    shapes = jax.eval_shape(
        lambda state, xs: engine.step(cell, call.params, state, jax.tree.map(one_step_of, xs)), state, call.xs
    )
    checks.check_cell_output(state, shapes)
    return shapes


def zero_state_shapes(cell: Cell, params: PyTree, batch_shape: tuple[int, ...]) -> PyTree:
    """Returns the shapes and dtypes of a cell's zero state.

    They are remembered, since an un-jitted call of one step would spend a third of its time on tracing them.
    """
    leaves, structure = jax.tree.flatten(params)
    if not all(hasattr(leaf, "shape") for leaf in leaves):
        return jax.eval_shape(lambda: cell.zero_state(params, batch_shape))
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    default_float = jax.dtypes.canonicalize_dtype(float)  # which a zero state may have
    return _trace_zero_state(cell, structure, shapes, tuple(batch_shape), default_float)


@lru_cache(maxsize=256)
def _trace_zero_state(
    cell: Cell, structure: Any, shapes: tuple, batch_shape: tuple[int, ...], default_float: jnp.dtype
) -> PyTree:
    params = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    return jax.eval_shape(lambda params: cell.zero_state(params, batch_shape), params)


def to_jax(tree: PyTree) -> PyTree:
    """Converts NumPy arrays, numbers and objects with ``__jax_array__``, such as ``nnx.Variable``, to JAX arrays.

    Other leaves are left for the cell's check to name.
    """

    def convert(leaf: Any) -> Any:
        convertible = isinstance(leaf, np.ndarray | np.generic | int | float) or wraps_array(leaf)
        return jnp.asarray(leaf) if convertible else leaf

    return jax.tree.map(convert, tree, is_leaf=wraps_array)


def to_array(array: Any) -> Any:
    """Converts to an array; host data stays on the host, where values are checked without waiting for a device."""
    if array is None or isinstance(array, jax.Array):
        return array
    return jnp.asarray(array) if wraps_array(array) else np.asarray(array)
