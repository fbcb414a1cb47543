"""What happens inside while a sequence is read: gates, memory and output of every step.

A trace is a dict of arrays ``[T, *batch, H]`` by the letters of the cell's file: ``i, f, g, o, c, h`` for an LSTM,
``r, z, n, h`` for a GRU, ``h`` alone for a simple network. It is computed by a cell that returns them as its output, so
the engine gives a trace the same meaning as a run, and a program without one is as it was.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax.cells import LSTM
from lstm_jax.sequence import unroll
from lstm_jax.stack import Between, kind_of, run_layers
from lstm_jax.structs import Bidirectional, Cell, PyTree

Trace = dict[str, jax.Array]
"""Arrays ``[T, *batch, H]`` by their letters; 0 at steps that are not taken."""


class Seen(NamedTuple):
    """What a traced cell returns at each step."""

    y: PyTree
    fields: Trace


@cache
def traced(cell: Cell) -> Cell:
    """The cell with ``Seen`` as its output: its gates by ``Cell.gates``, and the parts of its new state."""

    def update(params: PyTree, a: PyTree, state: PyTree) -> tuple[PyTree, Seen]:
        new, y = cell.update(params, a, state)
        return new, Seen(y, cell.gates(params, a, state) | state_fields(new))

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
    seen: Seen = unroll(traced(cell), params, xs, initial_state, **options)[1]  # type: ignore[arg-type]
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

    def run_one(params: PyTree, xs: jax.Array, initial: PyTree, **options: Any) -> tuple[PyTree, jax.Array]:
        final, seen = unroll(traced(cell or kind_of(params)), params, xs, initial, **options)
        found.append(seen.fields)
        return final, seen.y

    options = {"lengths": lengths, "mask": mask, "resets": resets, "reverse": reverse}
    run_layers(run_one, layers, xs, initial_state, reset_state, between, options)
    taking = iter(found)  # in the order of layers, forward before backward
    return tuple(
        Bidirectional(next(taking), next(taking)) if isinstance(params, Bidirectional) else next(taking)
        for params in layers
    )


class Units(NamedTuple):
    """What a trace says of each unit of an LSTM, each ``[H]``."""

    time_constant: jax.Array
    """steps after which a memory has faded to 1/e, were nothing written: ``-1 / mean(log f)``"""
    forget_gate: jax.Array
    """mean of f"""
    open_shares: dict[str, jax.Array]
    """share of steps at which a gate is above 0.9, by its letter"""
    closed_shares: dict[str, jax.Array]
    """share of steps at which it is below 0.1"""
    memory: jax.Array
    """mean of abs(c)"""
    saturated: jax.Array
    """share of steps at which abs(c) is above 2, where the slope of tanh(c) is below 0.07"""


SIGMOIDS = "ifozr"
"""The letters of what lies between 0 and 1."""


def units(seen: Trace, taken: jax.Array | None = None) -> Units:
    """How long each unit remembers, how often its gates stand open or shut, how full its memory is.

    Args:
        seen: of a cell with ``f`` and ``c``.
        taken: bool ``[T, *batch]``, the steps to count; None means all. See ``lengths_to_mask``.
    """
    absent = [name for name in "fc" if name not in seen]
    if absent:
        raise ValueError(f"seen: got {sorted(seen)}, want a trace with a forget gate f and a memory c")
    there = jnp.ones(seen["c"].shape[:-1], bool) if taken is None else taken
    axes = tuple(range(there.ndim))

    def mean(values: jax.Array) -> jax.Array:
        return jnp.mean(values, axis=axes, where=there[..., None])

    gates = {name: seen[name] for name in SIGMOIDS if name in seen}
    fading = -mean(jnp.log(jnp.maximum(jnp.where(there[..., None], seen["f"], 1), float(jnp.finfo(jnp.float32).tiny))))
    return Units(
        1 / fading,
        mean(seen["f"]),
        {name: mean((gate > 0.9).astype(gate.dtype)) for name, gate in gates.items()},
        {name: mean((gate < 0.1).astype(gate.dtype)) for name, gate in gates.items()},
        mean(jnp.abs(seen["c"])),
        mean((jnp.abs(seen["c"]) > 2).astype(seen["c"].dtype)),
    )
