"""What the modules of linen and nnx have in common: carries, axes, reading order."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.checks import check_type
from lstm_jax._core.sequence import unroll
from lstm_jax._core.steps import reading_order
from lstm_jax._core.structs import Cell, LSTMState, PyTree, accumulator_dtype
from lstm_jax.cells import GRU


class Kind(NamedTuple):
    """How a Flax cell maps to ours."""

    cell: Cell
    convert: Callable[[Any], PyTree]
    """the Flax cell's parameters to ours"""


class How(NamedTuple):
    """The options of Flax's ``RNN``."""

    time_major: bool
    return_carry: bool
    reverse: bool
    keep_order: bool


def override(attributes: How, **arguments: bool | None) -> How:
    """The module's attributes, where a call does not say otherwise."""
    return attributes._replace(**{name: value for name, value in arguments.items() if value is not None})


def check_standard(cell: Any, gate_fn: Callable, activation_fn: Callable) -> None:
    """The cell's nonlinearities are those that our cells compute."""
    standard = {"gate_fn": (gate_fn, jax.nn.sigmoid), "activation_fn": (activation_fn, jnp.tanh, jax.nn.tanh)}
    for name, known in standard.items():
        if getattr(cell, name) not in known:
            got = getattr(getattr(cell, name), "__name__", getattr(cell, name))
            raise ValueError(f"cell.{name}: got {got}, want {known[0].__name__}: the engine's cells have no other")


def run(
    kind: Kind,
    params: Any,
    carry: Any,
    inputs: jax.Array,
    lengths: jax.Array | None,
    resets: jax.Array | None,
    how: How,
    dtype: Any,
    remat: str | int | None,
) -> Any:
    """``unroll`` with Flax's arguments and results."""
    ours = kind.convert(params)
    dtype = dtype or jnp.result_type(inputs, *jax.tree.leaves(ours))
    ours, xs = jax.tree.map(lambda leaf: leaf.astype(dtype), (ours, inputs))
    if not how.time_major:
        xs = jnp.moveaxis(xs, -2, 0)
        resets = None if resets is None else jnp.moveaxis(resets, -1, 0)
    state = _to_state(kind.cell, carry, dtype)
    try:
        final, ys = unroll(kind.cell, ours, xs, state, lengths=lengths, resets=resets, reverse=how.reverse, remat=remat)
    except ValueError as fault:
        raise ValueError(f"{fault} (in the engine's terms: time first, lengths for seq_lengths)") from fault
    if how.reverse and not how.keep_order:
        ys = reading_order(ys, lengths)
    ys = ys if how.time_major else jnp.moveaxis(ys, 0, -2)
    return (_to_carry(final), ys) if how.return_carry else ys


def _to_state(cell: Cell, carry: Any, dtype: Any) -> PyTree:
    """Flax's carry is ``(c, h)`` for an LSTM and ``h`` for a GRU."""
    if cell is GRU:
        check_type("initial_carry", carry, jax.Array, "the carry of a GRU is h")
        return carry.astype(dtype)
    if isinstance(carry, LSTMState):
        carry = carry.c, carry.h
    if not isinstance(carry, tuple | list) or len(carry) != 2:
        raise ValueError(f"initial_carry: got {type(carry).__name__}, want Flax's pair (c, h), or LSTMState")
    c, h = carry
    return LSTMState(h=h.astype(dtype), c=c.astype(accumulator_dtype(dtype)))


def _to_carry(state: PyTree) -> Any:
    return (state.c, state.h) if isinstance(state, LSTMState) else state
