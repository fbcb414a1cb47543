"""Traces: the gates, memory and output of a network at every step of a sequence, and their statistics.

A trace is a dict of arrays ``[T, *batch, H]``. Its keys are the letters in the equations of the cell: ``i, f, g, o, c,
h`` for an LSTM, ``r, z, n, h`` for a GRU, ``h`` for a simple network. Arrays keep the size they have in the cell, for
example P for the ``h`` of a projected LSTM. ``traced`` turns any cell into one that outputs its trace, so lengths,
masks, resets and ``reverse`` have the same meaning for a trace as for a run. Runs without a trace have no overhead.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lstm_jax._core.layers import Between, cell_of_params, run_cell, run_layers
from lstm_jax._core.structs import Bidirectional, Cell, PyTree, SequenceOptions
from lstm_jax.cells import LSTM

Trace = dict[str, jax.Array]
"""Arrays ``[T, *batch, H]`` by letter, such as ``"f"`` or ``"c"``; 0 at steps that are not taken."""

SIGMOID_LETTERS = "ifozr"
"""Letters of the gates with values between 0 and 1."""

OPEN_ABOVE, CLOSED_BELOW = 0.9, 0.1
"""Thresholds above which a gate counts as open and below which it counts as closed (Karpathy et al. 2015)."""

SATURATED_ABOVE = 2.0
"""Magnitude above which a memory counts as saturated: the slope of tanh there is below 0.071."""


class TracedState(NamedTuple):
    """Output of a traced cell at one step."""

    y: PyTree
    """the output of the original cell"""
    fields: Trace
    """the gates of the step and the parts of the new state, by letter"""


@cache
def traced(cell: Cell) -> Cell:
    """Returns a cell that outputs ``TracedState(y, fields)``: the original output, the gates and the new state.

    The gates are those returned by ``cell.gates``; a cell without ``gates`` has a trace of its state only. The state of
    the returned cell equals that of ``cell``.

    Args:
        cell: any cell, for example ``cells.GRU``, or one derived by ``cells.with_inputs`` or a regularizer.
    Returns:
        a cell for ``unroll``. Calls with the same ``cell`` return the same object, so programs compile once.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.cells.GRU.init(jax.random.key(0), 3, 8)
        >>> state, (y, fields) = lj.unroll(lj.diagnostics.traced(lj.cells.GRU), params, jnp.ones((5, 3)))
        >>> y.shape, sorted(fields), fields["z"].shape
        ((5, 8), ['h', 'n', 'r', 'z'], (5, 8))
    """

    def update(params: PyTree, a: PyTree, state: PyTree) -> tuple[PyTree, TracedState]:
        new, y = cell.update(params, a, state)
        return new, TracedState(y, cell.gates(params, a, state) | state_fields(new))

    return cell._replace(update=update)


def state_fields(state: PyTree) -> Trace:
    """Returns the parts of a state by name; a state that is a single array is named ``h``."""
    return dict(state._asdict()) if hasattr(state, "_asdict") else {"h": state}


def trace(
    params: PyTree,
    xs: PyTree,
    initial_state: PyTree | None = None,
    *,
    cell: Cell = LSTM,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: PyTree | None = None,
    reverse: bool = False,
) -> Trace:
    """Runs a cell over a sequence and returns its gates, memory and output at every step.

    Equivalent to the ``fields`` output of ``unroll(traced(cell), params, xs, ...)``.

    Args:
        params: parameters of the cell, ``LSTMParams`` for an LSTM.
        xs: inputs ``[T, *batch, D]``, or ``Inputs`` for a cell with additional inputs per step.
        initial_state: the state before the first step processed; None means zeros.
        cell: a cell of ``cells.CELLS``, or one derived from it; its module documents the letters.
        lengths: integers ``[*batch]``; steps after the length are not taken. None means all T steps.
        mask: bool ``[T, *batch]``, True at steps that are taken; give at most one of ``lengths`` and ``mask``.
        resets: bool ``[T, *batch]``; no state crosses the boundary before a True step. None means no resets.
        reset_state: the state after a reset, broadcast to the state's shape; None means zeros.
        reverse: whether to process each sequence from its last taken step to its first.
    Returns:
        a dict of arrays ``[T, *batch, H]`` in the order of ``xs``. Entry t holds the gates of step t and the state
        after it; all are 0 at steps that are not taken.
    Raises:
        ValueError: if an argument has the wrong shape or dtype; the message names it.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> fields = lj.diagnostics.trace(lj.init_params(jax.random.key(0), 3, 8), jnp.ones((5, 3)))
        >>> sorted(fields), fields["f"].shape
        (['c', 'f', 'g', 'h', 'i', 'o'], (5, 8))
        >>> fields["f"].mean(axis=0).shape  # mean forget gate of each unit
        (8,)
    """
    options = SequenceOptions(lengths, mask, resets, reset_state, reverse)
    _, traced_state = run_cell(traced(cell), params, xs, initial_state, options)
    return traced_state.fields


def trace_stack(
    layers: Sequence[PyTree],
    xs: ArrayLike,
    initial_state: Sequence[PyTree] | None = None,
    *,
    cell: Cell | None = None,
    between: Between | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: Sequence[PyTree] | None = None,
    reverse: bool = False,
) -> tuple[Any, ...]:
    """Runs a stack of layers over a sequence and returns the trace of each layer.

    Args:
        layers: parameters of each layer, lowest first; a ``Bidirectional`` pair for a bidirectional layer.
        xs: inputs ``[T, *batch, D]``.
        initial_state: the initial state of each layer; None means zeros.
        cell: the cell of all layers; None means the LSTM, or the projected LSTM, depending on the parameters.
        between: ``between(layer_index, inputs, outputs)`` returns the inputs of the next layer; None means the outputs.
        lengths: integers ``[*batch]``; steps after the length are not taken. None means all T steps.
        mask: bool ``[T, *batch]``, True at steps that are taken; give at most one of ``lengths`` and ``mask``.
        resets: bool ``[T, *batch]``; no state crosses the boundary before a True step. None means no resets.
        reset_state: the state of each layer after a reset; None means zeros.
        reverse: whether every layer processes time in reverse; not allowed with ``Bidirectional`` layers.
    Returns:
        a tuple with the trace of each layer, lowest first; a ``Bidirectional`` pair for a bidirectional layer.
    Raises:
        ValueError: if an argument has the wrong shape or dtype; the message names the layer and the argument.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> layers = lj.init_stack(jax.random.key(0), 3, 8, 2, bidirectional=True)
        >>> lower, upper = lj.diagnostics.trace_stack(layers, jnp.ones((5, 3)))
        >>> upper.backward["c"].shape
        (5, 8)
    """
    traces: list[Trace] = []  # run_layers runs the layers in order, forward before backward

    def run_layer(
        params: PyTree, xs: jax.Array, initial_state: PyTree, options: SequenceOptions
    ) -> tuple[PyTree, jax.Array]:
        traced_cell = traced(cell or cell_of_params(params))
        final_state, traced_state = run_cell(traced_cell, params, xs, initial_state, options)
        traces.append(traced_state.fields)
        return final_state, traced_state.y

    options = SequenceOptions(lengths=lengths, mask=mask, resets=resets, reverse=reverse)
    run_layers(run_layer, layers, jnp.asarray(xs), initial_state, reset_state, between, options)
    remaining = iter(traces)
    return tuple(
        Bidirectional(next(remaining), next(remaining)) if isinstance(params, Bidirectional) else next(remaining)
        for params in layers
    )


class UnitStats(NamedTuple):
    """Statistics of each unit over the steps of a trace."""

    time_constant: jax.Array
    """``[H]``: steps after which the memory decays to 1/e without new input, ``-1 / mean(log f)``; z for a GRU"""
    retention: jax.Array
    """``[H]``: mean of f, or of z for a GRU: the fraction of the memory kept per step"""
    open_fractions: dict[str, jax.Array]
    """``[H]`` by gate letter: fraction of steps with the gate above 0.9"""
    closed_fractions: dict[str, jax.Array]
    """``[H]`` by gate letter: fraction of steps with the gate below 0.1"""
    mean_memory: jax.Array
    """``[H]``: mean of abs(c), or of abs(h) for a cell without c"""
    saturated_fraction: jax.Array
    """``[H]``: fraction of steps with abs(c), or abs(h) for a cell without c, above 2"""


def unit_stats(fields: Trace, mask: ArrayLike | None = None) -> UnitStats:
    """Computes for each unit the memory time constant, open and closed fractions of gates, and saturation.

    Args:
        fields: a trace ``[T, *batch, H]`` with a forget gate ``f`` or an update gate ``z``.
        mask: bool ``[T, *batch]``, True at steps to include; use ``lengths_to_mask(lengths, T)`` for padded sequences,
            whose traces are 0 after the length. None means all steps.
    Returns:
        ``UnitStats`` over all included steps of all sequences.
    Raises:
        ValueError: if the trace has neither ``f`` nor ``z``, or the mask has the wrong shape or dtype.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.init_params(jax.random.key(0), 3, 8)
        >>> stats = lj.diagnostics.unit_stats(lj.diagnostics.trace(params, jnp.ones((5, 3))))
        >>> stats.time_constant.shape, sorted(stats.open_fractions)
        ((8,), ['f', 'i', 'o'])
    """
    if not {"f", "z"} & set(fields):
        raise ValueError(f"fields: got {sorted(fields)}, want a trace with a gate f or z that keeps the memory")
    keep_gate = fields["f"] if "f" in fields else fields["z"]
    memory = jnp.abs(fields["c"] if "c" in fields else fields["h"])
    step_mask = jnp.ones(keep_gate.shape[:1], bool) if mask is None else jnp.asarray(mask)
    if step_mask.dtype != bool or step_mask.shape != keep_gate.shape[: step_mask.ndim]:
        raise ValueError(
            f"mask: got {step_mask.dtype} {step_mask.shape}, want bool [T, *batch] as in {keep_gate.shape}"
        )
    missing_axes = range(step_mask.ndim, keep_gate.ndim)
    is_included = jnp.broadcast_to(jnp.expand_dims(step_mask, missing_axes), keep_gate.shape)

    def mean(values: jax.Array) -> jax.Array:
        return jnp.mean(values, axis=range(values.ndim - 1), where=is_included)

    gates = {letter: fields[letter] for letter in SIGMOID_LETTERS if letter in fields}
    tiny = float(jnp.finfo(jnp.float32).tiny)
    decay_rate = -mean(jnp.log(jnp.clip(jnp.where(is_included, keep_gate, 1), tiny, 1)))
    return UnitStats(
        1 / jnp.maximum(decay_rate, tiny),
        mean(keep_gate),
        {letter: mean((gate > OPEN_ABOVE).astype(gate.dtype)) for letter, gate in gates.items()},
        {letter: mean((gate < CLOSED_BELOW).astype(gate.dtype)) for letter, gate in gates.items()},
        mean(memory),
        mean((memory > SATURATED_ABOVE).astype(memory.dtype)),
    )
