"""Framework-independent parts of ``RNN``: options, supported cells, carries, axis order and output order."""

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


class FlaxCellSpec(NamedTuple):
    """Describes how this package runs a Flax cell: the equivalent cell and the conversion of parameters."""

    cell: Cell
    """the cell of this package with the same equations"""
    import_params: Callable[[Any], PyTree]
    """``import_params(flax_params) -> params`` of ``cell``"""


class RNNOptions(NamedTuple):
    """Options that both the constructor and ``__call__`` of Flax's ``RNN`` accept."""

    time_major: bool
    """whether inputs are ``[T, *batch, D]`` instead of ``[*batch, T, D]``"""
    return_carry: bool
    """whether to return ``(carry, outputs)`` instead of the outputs alone"""
    reverse: bool
    """whether to process each sequence from its last valid step to its first"""
    keep_order: bool
    """whether outputs of a reversed run are in input order instead of processing order"""


def override_options(rnn_options: RNNOptions, **overrides: bool | None) -> RNNOptions:
    """Returns the options with every override that is not None applied."""
    return rnn_options._replace(**{name: value for name, value in overrides.items() if value is not None})


def find_cell_spec(specs: Mapping[type, FlaxCellSpec], cell: Any) -> FlaxCellSpec:
    """Returns the spec of a Flax cell's type; raises ValueError if the cell is not supported.

    Args:
        specs: by type of cell.
        cell: a Flax cell.
    """
    if type(cell) not in specs:
        names = ", ".join(cell_type.__name__ for cell_type in specs)
        raise ValueError(f"cell: got {type(cell).__name__}, want one of {names}")
    return specs[type(cell)]


def check_activations(cell: Any, gate_fn: Callable, activation_fn: Callable) -> None:
    """Raises ValueError unless a Flax cell uses sigmoid for its gates and tanh as its activation.

    Args:
        cell: a Flax cell.
        gate_fn: the function that it applies to its gates.
        activation_fn: the function that it applies to candidate and memory.
    """
    supported = {"gate_fn": (gate_fn, jax.nn.sigmoid), "activation_fn": (activation_fn, jnp.tanh, jax.nn.tanh)}
    for field, functions in supported.items():
        function = getattr(cell, field)
        if function not in functions:
            got = getattr(function, "__name__", function)
            wanted = functions[0].__name__
            raise ValueError(f"cell.{field}: got {got}, want {wanted}: the cells of lstm_jax compute no other")


def run_flax_rnn(
    spec: FlaxCellSpec,
    flax_params: Any,
    carry: Any,
    inputs: ArrayLike,
    *,
    lengths: ArrayLike | None,
    resets: ArrayLike | None,
    rnn_options: RNNOptions,
    dtype: Any,
    remat: str | int | None,
) -> Any:
    """Runs ``unroll`` with the arguments and results of Flax's ``RNN``.

    Args:
        spec: the equivalent cell and the conversion of parameters.
        flax_params: the parameters of the Flax cell.
        carry: the initial carry in Flax's order, ``(c, h)`` for an LSTM and ``h`` for a GRU.
        inputs: ``[T, *batch, D]`` if ``rnn_options.time_major``, else ``[*batch, T, D]``.
        lengths: integers ``[*batch]``, the valid steps of each sequence; None means all T steps.
        resets: bool, in the layout of the inputs without the feature axis; None means no resets.
        rnn_options: the options of this call, overrides applied.
        dtype: the computation dtype; None means the promoted dtype of inputs and parameters.
        remat: which values are saved for the backward pass, as for ``lstm_jax.lstm``.
    Returns:
        the outputs in the layout of the inputs, or ``(carry, outputs)`` if ``rnn_options.return_carry``.
    Raises:
        ValueError: if an argument has the wrong shape, dtype or type.
    """
    params = spec.import_params(flax_params)
    inputs, lengths, resets, carry = unwrap_variables((inputs, lengths, resets, carry))
    dtype = dtype or jnp.result_type(inputs, *jax.tree.leaves(params))
    params, xs = jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(dtype), (params, inputs))
    if not rnn_options.time_major:
        xs = jnp.moveaxis(xs, -2, 0)
        resets = None if resets is None else jnp.moveaxis(resets, -1, 0)
    state = _carry_to_state(spec.cell, carry, dtype)
    sequence_flags: dict[str, Any] = {"lengths": lengths, "resets": resets}
    try:
        final_state, ys = unroll(
            spec.cell, params, xs, state, reverse=rnn_options.reverse, remat=remat, **sequence_flags
        )
    except ValueError as error:
        raise ValueError(f"{error} (in this message time comes first, and lengths are seq_lengths)") from error
    if rnn_options.reverse and not rnn_options.keep_order:
        ys = reading_order(ys, None if lengths is None else jnp.asarray(lengths))
    outputs = ys if rnn_options.time_major else jnp.moveaxis(ys, 0, -2)
    return (_state_to_carry(final_state), outputs) if rnn_options.return_carry else outputs


def _carry_to_state(cell: Cell, carry: Any, dtype: Any) -> PyTree:
    """Converts a Flax carry, ``(c, h)`` or ``LSTMState`` for an LSTM and ``h`` for a GRU, to the state of ``cell``."""
    if cell is GRU:
        check_type("initial_carry", carry, jax.Array | np.ndarray, "the carry of a GRU is h")
        return jnp.asarray(carry).astype(dtype)
    if isinstance(carry, LSTMState):
        carry = carry.c, carry.h
    if not isinstance(carry, tuple | list) or len(carry) != 2:
        raise ValueError(f"initial_carry: got {type(carry).__name__}, want Flax's pair (c, h), or LSTMState")
    c, h = map(jnp.asarray, carry)
    return LSTMState(h=h.astype(dtype), c=c.astype(accumulator_dtype(dtype)))


def _state_to_carry(state: PyTree) -> Any:
    """Converts a state to Flax's carry: ``(c, h)`` for an LSTM, ``h`` for a GRU."""
    return (state.c, state.h) if isinstance(state, LSTMState) else state
