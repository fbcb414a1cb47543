"""Traces: the gates, memory and output of a network at every step of a sequence.

A trace is a dict of arrays ``[T, *batch, H]`` by the letters of the cell's file: ``i, f, g, o, c, h`` for an LSTM, ``r,
z, n, h`` for a GRU, ``h`` alone for a simple network. An array that is wider or narrower in the cell, such as the ``h``
of a projected LSTM, is so in the trace. ``traced`` makes of any cell one that outputs its trace. Lengths, masks, resets
and reverse therefore mean for a trace what they mean for a run, and a run without a trace costs nothing more.
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
"""Arrays ``[T, *batch, H]`` by their letters; 0 at steps that are not taken."""

SIGMOID_LETTERS = "ifozr"
"""The letters of the gates whose values lie between 0 and 1."""

OPEN_ABOVE, CLOSED_BELOW = 0.9, 0.1
"""A gate counts as open above the first value and as closed below the second (Karpathy, Johnson and Li 2015)."""

SATURATED_ABOVE = 2.0
"""A memory counts as saturated above this value, where the slope of tanh is below 0.071."""


class TracedState(NamedTuple):
    """Output of a traced cell at each step."""

    y: PyTree
    """the output of the cell itself"""
    fields: Trace
    """the gates of the step and the parts of the state after it, by their letters"""


@cache
def traced(cell: Cell) -> Cell:
    """Makes a cell that outputs ``TracedState(y, fields)``: its own output, its gates, and the parts of its new state.

    The gates are those that ``cell.gates`` names; a cell without that function is traced with its state alone. The
    state itself, and therefore every result of a run but the output, is that of ``cell``.

    Args:
        cell: any cell, for example ``cells.GRU``, or one that ``cells.with_inputs`` or a regularizer made.
    Returns:
        a cell for ``unroll``, the same object for the same cell, so that programs are compiled once.

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
    """Returns the parts of a state by their names; a state that is one array is named ``h``."""
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

    It is the ``fields`` of ``unroll(traced(cell), params, xs, ...)``.

    Args:
        params: parameters of the cell, ``LSTMParams`` for an LSTM.
        xs: inputs ``[T, *batch, D]``, or ``Inputs`` for a cell that reads more at each step.
        initial_state: the state before the first step read; None means zeros.
        cell: any of ``cells.CELLS``, or a cell made of one; its file says what its letters mean.
        lengths: integers ``[*batch]``; later steps are not taken. None means all T steps.
        mask: bool ``[T, *batch]``, the steps that are taken; at most one of lengths and mask is given.
        resets: bool ``[T, *batch]``, steps that start from ``reset_state``; None means none.
        reset_state: broadcasts to the state; None means zeros.
        reverse: whether each sequence is read from its last taken step to its first.
    Returns:
        a dict of arrays ``[T, *batch, H]`` in the order of ``xs``. ``c[t]`` and ``h[t]`` are the state after step t,
        the gates are those that made it; all are 0 at steps that are not taken.
    Raises:
        ValueError: naming the argument, what it got and what it wants.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> fields = lj.diagnostics.trace(lj.init_params(jax.random.key(0), 3, 8), jnp.ones((5, 3)))
        >>> sorted(fields), fields["f"].shape
        (['c', 'f', 'g', 'h', 'i', 'o'], (5, 8))
        >>> fields["f"].mean(axis=0).shape  # how much of its memory each unit keeps, on average
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
        layers: each layer's parameters, lowest first; ``Bidirectional`` of two for a layer that reads both ways.
        xs: inputs ``[T, *batch, D]``.
        initial_state: one state a layer; None means zeros throughout.
        cell: the cell of all layers; None means LSTMs, with or without a projection.
        between: ``between(layer, inputs, outputs)`` returns the next layer's inputs; None means the outputs.
        lengths: integers ``[*batch]``; later steps are not taken. None means all T steps.
        mask: bool ``[T, *batch]``, the steps that are taken; at most one of lengths and mask is given.
        resets: bool ``[T, *batch]``, steps that start from ``reset_state``; None means none.
        reset_state: one state a layer; None means zeros.
        reverse: whether every layer reads in reverse; not together with ``Bidirectional`` layers.
    Returns:
        a tuple with the trace of each layer, lowest first; ``Bidirectional`` of two for a layer that reads both ways.
    Raises:
        ValueError: naming the layer and the argument, what it got and what it wants.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> layers = lj.init_stack(jax.random.key(0), 3, 8, 2, bidirectional=True)
        >>> lower, upper = lj.diagnostics.trace_stack(layers, jnp.ones((5, 3)))
        >>> upper.backward["c"].shape
        (5, 8)
    """
    traces: list[Trace] = []  # in the order of layers, forward before backward

    def run_layer(params: PyTree, xs: jax.Array, initial: PyTree, options: SequenceOptions) -> tuple[PyTree, jax.Array]:
        final, traced_state = run_cell(traced(cell or cell_of_params(params)), params, xs, initial, options)
        traces.append(traced_state.fields)
        return final, traced_state.y

    options = SequenceOptions(lengths, mask, resets, None, reverse)
    run_layers(run_layer, layers, jnp.asarray(xs), initial_state, reset_state, between, options)
    remaining = iter(traces)
    return tuple(
        Bidirectional(next(remaining), next(remaining)) if isinstance(params, Bidirectional) else next(remaining)
        for params in layers
    )


class UnitStats(NamedTuple):
    """Statistics of each unit over the steps of a trace."""

    time_constant: jax.Array
    """``[H]``: steps after which a memory has faded to 1/e if nothing is written, ``-1 / mean(log f)``; z for a GRU"""
    retention: jax.Array
    """``[H]``: the mean of f, or of z: the share of the memory that a step keeps"""
    open_fractions: dict[str, jax.Array]
    """``[H]`` by a gate's letter: the fraction of steps at which the gate is above 0.9"""
    closed_fractions: dict[str, jax.Array]
    """``[H]`` by a gate's letter: the fraction of steps at which the gate is below 0.1"""
    mean_memory: jax.Array
    """``[H]``: the mean of abs(c), or of abs(h) for a cell without c"""
    saturated_fraction: jax.Array
    """``[H]``: the fraction of steps at which abs(c), or abs(h), is above 2"""


def unit_stats(fields: Trace, mask: ArrayLike | None = None) -> UnitStats:
    """Measures how long each unit remembers, how often its gates are open or closed, and how full its memory is.

    Args:
        fields: a trace, arrays ``[T, *batch, H]``, with a forget gate ``f`` or an update gate ``z``.
        mask: bool ``[T, *batch]``, the steps that count: for a padded trace, whose gates are 0 after the lengths,
            ``lengths_to_mask(lengths, T)``. None means all steps.
    Returns:
        ``UnitStats``, over all steps that count of all rows of the batch.
    Raises:
        ValueError: for a trace with neither gate, or a mask of another shape or dtype.

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
    counted = jnp.ones(keep_gate.shape[:1], bool) if mask is None else jnp.asarray(mask)
    if counted.dtype != bool or counted.shape != keep_gate.shape[: counted.ndim]:
        raise ValueError(f"mask: got {counted.dtype} {counted.shape}, want bool [T, *batch] as in {keep_gate.shape}")
    counted = jnp.broadcast_to(jnp.expand_dims(counted, range(counted.ndim, keep_gate.ndim)), keep_gate.shape)

    def mean(values: jax.Array) -> jax.Array:
        return jnp.mean(values, axis=range(values.ndim - 1), where=counted)

    gates = {letter: fields[letter] for letter in SIGMOID_LETTERS if letter in fields}
    tiny = float(jnp.finfo(jnp.float32).tiny)
    decay_rate = -mean(jnp.log(jnp.clip(jnp.where(counted, keep_gate, 1), tiny, 1)))
    return UnitStats(
        1 / jnp.maximum(decay_rate, tiny),
        mean(keep_gate),
        {letter: mean((gate > OPEN_ABOVE).astype(gate.dtype)) for letter, gate in gates.items()},
        {letter: mean((gate < CLOSED_BELOW).astype(gate.dtype)) for letter, gate in gates.items()},
        mean(memory),
        mean((memory > SATURATED_ABOVE).astype(memory.dtype)),
    )
