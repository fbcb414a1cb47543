"""Carries, axes and reading order, which the modules of linen and of nnx have in common."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lstm_jax._core.checks import check_type
from lstm_jax._core.sequence import unroll
from lstm_jax._core.steps import reading_order
from lstm_jax._core.structs import Cell, LSTMState, PyTree, accumulator_dtype
from lstm_jax.cells import GRU
from lstm_jax.interop.arrays import unwrap_variables

MISSING_FLAX = "lstm_jax.flax_modules needs flax: pip install 'lstm_jax[flax]'"
"""The message of the ImportError where Flax is not installed."""


class FlaxCellSpec(NamedTuple):
    """The cell of ours that computes what a Flax cell does, and the conversion of its parameters."""

    cell: Cell
    """our cell"""
    import_params: Callable[[Any], PyTree]
    """``import_params(params of the Flax cell) -> params`` of our cell"""


class RNNOptions(NamedTuple):
    """The options of Flax's ``RNN``, which its constructor and its call both take."""

    time_major: bool
    """whether inputs are ``[T, *batch, D]`` and not ``[*batch, T, D]``"""
    return_carry: bool
    """whether ``(carry, outputs)`` is returned and not outputs alone"""
    reverse: bool
    """whether each sequence is read from its last valid step to its first"""
    keep_order: bool
    """whether outputs of a reversed run are in the order of the inputs and not in that of reading"""


def override(options: RNNOptions, **arguments: bool | None) -> RNNOptions:
    """Returns the options of a module, replaced by the arguments of a call where those are not None."""
    return options._replace(**{name: value for name, value in arguments.items() if value is not None})


def find_cell_spec(specs: Mapping[type, FlaxCellSpec], cell: Any) -> FlaxCellSpec:
    """Returns the spec for the type of a Flax cell; raises ValueError if the table has none for it."""
    if type(cell) not in specs:
        names = ", ".join(cell_type.__name__ for cell_type in specs)
        raise ValueError(f"cell: got {type(cell).__name__}, want one of {names}")
    return specs[type(cell)]


def check_activations(cell: Any, gate_fn: Callable, activation_fn: Callable) -> None:
    """Raises ValueError unless the activations of a Flax cell are those that our cells compute, sigmoid and tanh."""
    computed = {"gate_fn": (gate_fn, jax.nn.sigmoid), "activation_fn": (activation_fn, jnp.tanh, jax.nn.tanh)}
    for name, functions in computed.items():
        function = getattr(cell, name)
        if function not in functions:
            got, wanted = getattr(function, "__name__", function), functions[0].__name__
            raise ValueError(f"cell.{name}: got {got}, want {wanted}: the engine's cells have no other")


def run(
    spec: FlaxCellSpec,
    flax_params: Any,
    carry: Any,
    inputs: ArrayLike,
    lengths: ArrayLike | None,
    resets: ArrayLike | None,
    options: RNNOptions,
    dtype: Any,
    remat: str | int | None,
) -> Any:
    """Runs ``unroll`` with the arguments and results of Flax's ``RNN``."""
    params = spec.import_params(flax_params)
    inputs, lengths, resets, carry = unwrap_variables((inputs, lengths, resets, carry))
    dtype = dtype or jnp.result_type(inputs, *jax.tree.leaves(params))
    params, xs = jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(dtype), (params, inputs))
    if not options.time_major:
        xs = jnp.moveaxis(xs, -2, 0)
        resets = None if resets is None else jnp.moveaxis(resets, -1, 0)
    state = _to_state(spec.cell, carry, dtype)
    flags: dict[str, Any] = {"lengths": lengths, "resets": resets}
    try:
        final_state, ys = unroll(spec.cell, params, xs, state, reverse=options.reverse, remat=remat, **flags)
    except ValueError as error:
        raise ValueError(f"{error} (in the engine's terms: time first, lengths for seq_lengths)") from error
    if options.reverse and not options.keep_order:
        ys = reading_order(ys, None if lengths is None else jnp.asarray(lengths))
    ys = ys if options.time_major else jnp.moveaxis(ys, 0, -2)
    return (_to_carry(final_state), ys) if options.return_carry else ys


def _to_state(cell: Cell, carry: Any, dtype: Any) -> PyTree:
    """Converts Flax's carry, ``(c, h)`` for an LSTM and ``h`` for a GRU, to our state; ``LSTMState`` goes by name."""
    if cell is GRU:
        check_type("initial_carry", carry, jax.Array | np.ndarray, "the carry of a GRU is h")
        return jnp.asarray(carry).astype(dtype)
    if isinstance(carry, LSTMState):
        carry = carry.c, carry.h
    if not isinstance(carry, tuple | list) or len(carry) != 2:
        raise ValueError(f"initial_carry: got {type(carry).__name__}, want Flax's pair (c, h), or LSTMState")
    c, h = map(jnp.asarray, carry)
    return LSTMState(h=h.astype(dtype), c=c.astype(accumulator_dtype(dtype)))


def _to_carry(state: PyTree) -> Any:
    return (state.c, state.h) if isinstance(state, LSTMState) else state
