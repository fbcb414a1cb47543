"""What happens inside while a sequence is read: gates, memory and output of every step.

A trace is a dict of arrays ``[T, *batch, H]`` by the letters of the cell's file: ``i, f, g, o, c, h`` for an LSTM, ``r,
z, n, h`` for a GRU, ``h`` alone for a simple network. What has another width in the cell has it here: the projection
``h`` of a projected LSTM, the place of a batch-normalised one. A trace is computed by a cell that returns it as its
output, so the engine gives it the same meaning as a run, and a program without one is as it was.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.sequence import unroll
from lstm_jax._core.stack import Between, cell_of_params, run_layers
from lstm_jax._core.structs import Bidirectional, Cell, PyTree
from lstm_jax.cells import LSTM

Trace = dict[str, jax.Array]
"""Arrays ``[T, *batch, H]`` by their letters; 0 at steps that are not taken."""


class TracedState(NamedTuple):
    """What a traced cell returns at each step."""

    y: PyTree
    fields: Trace


@cache
def traced(cell: Cell) -> Cell:
    """The cell with ``TracedState`` as its output: its gates by ``Cell.gates``, and the parts of its new state."""

    def update(params: PyTree, a: PyTree, state: PyTree) -> tuple[PyTree, TracedState]:
        new, y = cell.update(params, a, state)
        return new, TracedState(y, cell.gates(params, a, state) | state_fields(new))

    return cell._replace(update=update)


def state_fields(state: PyTree) -> Trace:
    """The parts of a state by their names; a state that is one array is ``h``."""
    return dict(state._asdict()) if hasattr(state, "_asdict") else {"h": state}


def trace(
    params: PyTree,
    xs: PyTree,
    initial_state: PyTree | None = None,
    *,
    cell: Cell = LSTM,
    lengths: jax.Array | None = None,
    mask: jax.Array | None = None,
    resets: jax.Array | None = None,
    reset_state: PyTree | None = None,
    reverse: bool = False,
) -> Trace:
    """Gates, memory and output of every step: ``i, f, g, o, c, h``, each ``[T, *batch, H]``, for an LSTM.

        seen = diagnostics.trace(params, xs, lengths=lengths)
        seen["f"].mean(axis=(0, 1))                                  # how much each unit keeps

    Args:
        params, xs, initial_state, lengths, mask, resets, reset_state, reverse: as for ``lstm`` and ``unroll``.
        cell: any of ``cells.CELLS``; its file says what its letters mean.
    Returns:
        arrays in the order of ``xs``: ``c[t]`` and ``h[t]`` are the state behind step t, the gates those that made it;
        0 at steps that are not taken.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    options = {"lengths": lengths, "mask": mask, "resets": resets, "reset_state": reset_state, "reverse": reverse}
    seen: TracedState = unroll(traced(cell), params, xs, initial_state, **options)[1]  # type: ignore[arg-type]
    return seen.fields


def trace_stack(
    layers: Sequence[PyTree],
    xs: jax.Array,
    initial_state: Sequence[PyTree] | None = None,
    *,
    cell: Cell | None = None,
    between: Between | None = None,
    lengths: jax.Array | None = None,
    mask: jax.Array | None = None,
    resets: jax.Array | None = None,
    reset_state: Sequence[PyTree] | None = None,
    reverse: bool = False,
) -> tuple[Any, ...]:
    """A trace of each layer, lowest first; ``Bidirectional`` of two for a layer that reads both ways.

    Args:
        layers, xs, initial_state, between, lengths, mask, resets, reset_state, reverse: as for ``lstm_stack``.
        cell: of all layers; None means LSTMs, as for ``lstm_stack``.
    """
    found: list[Trace] = []

    def run_layer(params: PyTree, xs: jax.Array, initial: PyTree, **options: Any) -> tuple[PyTree, jax.Array]:
        final, seen = unroll(traced(cell or cell_of_params(params)), params, xs, initial, **options)
        found.append(seen.fields)
        return final, seen.y

    options = {"lengths": lengths, "mask": mask, "resets": resets, "reverse": reverse}
    run_layers(run_layer, layers, xs, initial_state, reset_state, between, options)
    taking = iter(found)  # in the order of layers, forward before backward
    return tuple(
        Bidirectional(next(taking), next(taking)) if isinstance(params, Bidirectional) else next(taking)
        for params in layers
    )


class UnitStats(NamedTuple):
    """What a trace says of each unit, ``[H]``; shares by the letters of the gates.

    time_constant: steps after which a memory has faded to 1/e; kept: mean of f; open_shares, closed_shares: of steps at
    which a gate is above 0.9, below 0.1; memory: mean of abs(c); saturated: share of steps with abs(c) above 2.
    """

    time_constant: jax.Array
    """steps after which a memory has faded to 1/e, were nothing written: ``-1 / mean(log f)``; of a GRU, of z"""
    kept: jax.Array
    """mean of f, or z"""
    open_shares: dict[str, jax.Array]
    """share of steps at which a gate is above 0.9, by its letter"""
    closed_shares: dict[str, jax.Array]
    """share of steps at which it is below 0.1"""
    memory: jax.Array
    """mean of abs(c), or of abs(h) where there is no c"""
    saturated: jax.Array
    """share of steps at which that is above 2, where the slope of tanh is below 0.071"""


SIGMOIDS = "ifozr"
"""The letters of what lies between 0 and 1."""


def unit_stats(seen: Trace, taken: jax.Array | None = None) -> UnitStats:
    """How long each unit remembers, how often its gates stand open or shut, how full its memory is.

    Args:
        seen: of a cell with a forget gate ``f``, or ``z``.
        taken: bool ``[T, *batch]``, the steps to count: ``lengths_to_mask(lengths, T)`` of a padded trace, whose gates
            are 0 behind the lengths; None means all.
    Raises:
        ValueError: a trace without such a gate, flags of another shape.
    """
    if not {"f", "z"} & set(seen):
        raise ValueError(f"seen: got {sorted(seen)}, want a trace with a gate f or z that keeps the memory")
    keeping = seen["f"] if "f" in seen else seen["z"]
    memory = jnp.abs(seen["c"] if "c" in seen else seen["h"])
    there = jnp.ones(keeping.shape[:1], bool) if taken is None else jnp.asarray(taken)
    if there.dtype != bool or there.shape != keeping.shape[: there.ndim]:
        raise ValueError(f"taken: got {there.dtype} {there.shape}, want bool [T, *batch] as in {keeping.shape}")
    there = jnp.broadcast_to(jnp.expand_dims(there, range(there.ndim, keeping.ndim)), keeping.shape)

    def mean(values: jax.Array) -> jax.Array:
        return jnp.mean(values, axis=range(values.ndim - 1), where=there)

    gates = {name: seen[name] for name in SIGMOIDS if name in seen}
    tiny = float(jnp.finfo(jnp.float32).tiny)
    fading = -mean(jnp.log(jnp.clip(jnp.where(there, keeping, 1), tiny, 1)))
    return UnitStats(
        1 / jnp.maximum(fading, tiny),
        mean(keeping),
        {name: mean((gate > 0.9).astype(gate.dtype)) for name, gate in gates.items()},
        {name: mean((gate < 0.1).astype(gate.dtype)) for name, gate in gates.items()},
        mean(memory),
        mean((memory > 2).astype(memory.dtype)),
    )
