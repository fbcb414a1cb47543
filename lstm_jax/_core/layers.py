"""The loop over the layers of a stack and their directions, whatever runs one of them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lstm_jax._core.checks import check_layers
from lstm_jax._core.sequence import lstm, unroll
from lstm_jax._core.structs import Bidirectional, Cell, PyTree, SequenceOptions
from lstm_jax.cells.lstm import LSTM
from lstm_jax.cells.projected import PROJECTED_LSTM, ProjectedLSTMParams

Between = Callable[[int, jax.Array, jax.Array], jax.Array]
"""``between(layer, inputs, outputs) -> inputs of the next layer``"""
RunLayer = Callable[[PyTree, Any, PyTree, SequenceOptions], tuple[PyTree, jax.Array]]
"""``run_layer(params, xs, initial_state, options) -> (final_state, ys)``: one direction of a layer"""


def run_layers(
    run_layer: RunLayer,
    layers: Sequence[PyTree],
    xs: Any,
    initial_state: Sequence[PyTree] | None,
    reset_state: Sequence[PyTree] | None,
    between: Between | None,
    options: SequenceOptions,
) -> tuple[tuple[PyTree, ...], jax.Array]:
    """Runs the layers of a stack by ``run_layer``; the other arguments are those of ``lstm_stack``."""
    check_layers(layers)
    initials = _state_of_each_layer("initial_state", initial_state, len(layers))
    resets = _state_of_each_layer("reset_state", reset_state, len(layers))
    finals = []
    for number, (params, initial, reset) in enumerate(zip(layers, initials, resets, strict=True)):
        try:
            with jax.named_scope(f"layer_{number}"):
                final, ys = _run_directions(run_layer, params, xs, initial, options._replace(reset_state=reset))
        except ValueError as error:
            raise ValueError(f"layers[{number}]: {error}") from error
        finals.append(final)
        is_last = number == len(layers) - 1
        xs = ys if between is None or is_last else between(number, xs, ys)
    return tuple(finals), xs


def _run_directions(
    run_layer: RunLayer, params: PyTree, xs: Any, initial: PyTree, options: SequenceOptions
) -> tuple[PyTree, jax.Array]:
    """Runs one layer, in one direction or both."""
    if not isinstance(params, Bidirectional):
        return run_layer(params, xs, initial, options)
    if options.reverse:
        raise ValueError("reverse: got True, but the layer is Bidirectional and reads both ways; want False")
    initials = _state_of_each_direction("initial_state", initial)
    resets = _state_of_each_direction("reset_state", options.reset_state)
    finals, outputs = [], []
    for name, own_params, state, reset in zip(params._fields, params, initials, resets, strict=True):
        with jax.named_scope(name):
            final, ys = run_layer(
                own_params, xs, state, options._replace(reset_state=reset, reverse=name == "backward")
            )
        finals.append(final)
        outputs.append(ys)
    return Bidirectional(*finals), jnp.concatenate(outputs, axis=-1)


def cell_of_params(params: PyTree) -> Cell:
    """Returns the cell of an LSTM layer's parameters."""
    return PROJECTED_LSTM if isinstance(params, ProjectedLSTMParams) else LSTM


def _state_of_each_layer(name: str, states: Sequence[PyTree] | None, num_layers: int) -> Sequence[PyTree]:
    if states is None:
        return [None] * num_layers
    if hasattr(states, "_fields") or not isinstance(states, tuple | list) or len(states) != num_layers:
        got = f"{len(states)} parts" if type(states) in (tuple, list) else type(states).__name__
        raise ValueError(f"{name}: got {got}, want a tuple of {num_layers}, one state a layer")
    return states


def _state_of_each_direction(name: str, state: PyTree) -> tuple[PyTree, PyTree]:
    if state is None:
        return None, None
    if not isinstance(state, Bidirectional):
        raise ValueError(f"{name}: got {type(state).__name__}, want Bidirectional(forward, backward)")
    return tuple(state)


def run_lstm_layer(
    params: PyTree, xs: Any, initial_state: PyTree, options: SequenceOptions
) -> tuple[PyTree, jax.Array]:
    """Runs one direction of an LSTM layer, with or without a projection."""
    if not isinstance(params, ProjectedLSTMParams):
        return lstm(params, xs, initial_state, **options._asdict())
    if options.implementation not in (None, "scan"):
        raise ValueError(
            f"implementation: got {options.implementation!r} for {type(params).__name__}, want 'scan' or None"
        )
    return run_cell(PROJECTED_LSTM, params, xs, initial_state, options)


def run_cell(
    cell: Cell, params: PyTree, xs: Any, initial_state: PyTree, options: SequenceOptions
) -> tuple[PyTree, PyTree]:
    """``unroll`` with its options in one tuple; bound to a cell it is a ``RunLayer``."""
    by_name = options._asdict()
    del by_name["implementation"]
    return unroll(cell, params, xs, initial_state, **by_name)
