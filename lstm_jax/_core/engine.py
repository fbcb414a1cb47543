"""The recurrence over time for any cell, and its tangent, whose transpose is back-propagation through time.

Forward, time is cut into chunks: a chunk of inputs is projected in one matrix product, then a loop joins each
step's share with the state. The derivative is a ``custom_jvp``. Its rule knows the state that entered each step,
since the forward pass saved it, so all but the recurrence itself is linear algebra on a whole chunk at once:

    forward     z = project(params, x)      a = recur(params, z, s)      s', y = update(params, a, s)
    chunk       inflow = tangent of recur(params, project(params, x), s) along d(params) and dx
                own = tangent of update along d(params), for cells that have parameters there
                linear = tangent of update as a linear map for each step, its coefficients computed
    loop        ds', dy = linear(inflow + tangent of recur along ds, ds), plus own

JAX transposes it. The transposed loop carries the cotangent of the state alone and has one product a step; the
transposed chunk holds the gradients of weights and inputs, in products over all its steps. Being a tangent rule,
it serves forward mode and every higher order as well.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
from jax import lax

from lstm_jax._core import tuning
from lstm_jax._core.chunks import NO_CHUNKS, Chunks, scan_chunks
from lstm_jax._core.steps import StepFlags, select
from lstm_jax._core.structs import Cell, PyTree, input_sequence
from lstm_jax._core.tangents import (
    add,
    cast,
    drop_unused,
    instantiate_zero,
    jvp_with_zeros,
    linearize_steps,
    symbolic_zero_to_none,
    widen,
)


class Loop(NamedTuple):
    """A way to run the steps of a chunk, and their tangent; ``scan_loop`` gives the one that serves every cell."""

    forward: Callable[..., tuple[PyTree, PyTree, "Residuals | None"]]
    """``forward(how, params, zs, steps, state, reset_state) -> (state, ys, saved)``"""
    tangent: Callable[..., tuple[PyTree, PyTree, "Residuals | None"]]
    """``tangent(how, params, StepResiduals, inflow, own, dstate, dreset) -> (dstate, dys, dsaved)``, linear in the last four"""
    limit: Callable[[str, tuple[int, ...], int], int]
    """``limit(remat, shape of xs, width)``: steps a chunk at most"""


class LoopConfig(NamedTuple):
    """What is static about a run."""

    loop: Loop
    cell: Cell
    reverse: bool
    remat: str
    """``"gates"`` or ``"states"``: what the forward pass saves for the derivative"""
    chunk: int
    """steps a chunk at most"""
    saves: bool = False
    """whether what was saved is returned"""


class StepResiduals(NamedTuple):
    """What the tangent of a chunk knows of its steps, ``[chunk, ...]`` each."""

    zs: PyTree
    a: PyTree
    entering: PyTree
    steps: StepFlags


class Residuals(NamedTuple):
    """What the tangent rule needs from the forward pass."""

    entering: PyTree
    """the state from which each step started, ``[T, *batch, H]``"""
    a: PyTree | None
    """each step's pre-activations, ``[T, *batch, 4H]`` for an LSTM; None if they are to be recomputed"""


def run(
    cell: Cell,
    params: PyTree,
    xs: PyTree,
    state: PyTree,
    steps: StepFlags,
    reset_state: PyTree,
    *,
    reverse: bool,
    remat: str | int | None,
    loop: Loop,
) -> tuple[PyTree, PyTree]:
    """Runs the cell over ``xs [T, *batch, D]``, or ``Inputs``; the arguments are checked and complete.

    Args:
        state: the state before the first step read, ``[*batch, H]``.
        reset_state: what a step starts from that does not carry the state on, ``[*batch, H]``; None if all do.
        reverse: whether time is read from its end.
        remat: see ``lstm_jax.lstm``.
        loop: how the steps of a chunk are run.
    Returns:
        (final state, ys ``[T, *batch, ...]``)
    """
    width, shape = jax.tree.leaves(state)[0].shape[-1], input_sequence(xs).shape
    if remat is None:
        remat = tuning.choose_remat(shape[0], width)
    if isinstance(remat, str):
        how = LoopConfig(loop, cell, reverse, remat, loop.limit(remat, shape, width))
        final, ys, _ = _recurrence(how, params, xs, steps, state, reset_state)
        return final, ys

    shared = (params, reset_state)
    wide = widen(shared)

    @partial(jax.checkpoint, prevent_cse=False)
    def segment(state: PyTree, inputs: tuple[PyTree, StepFlags], _: None) -> tuple[PyTree, PyTree, None]:
        xs, steps = inputs
        params, reset_state = cast(wide, shared)
        return *run(cell, params, xs, state, steps, reset_state, reverse=reverse, remat="gates", loop=loop), None

    final, ys, _ = scan_chunks(segment, state, (xs, steps), remat, reverse)
    return final, ys


def step(cell: Cell, params: PyTree, state: PyTree, x: jax.Array) -> tuple[PyTree, PyTree]:
    """One step: ``x [*batch, D]`` to (state, y)."""
    a = cell.recur(params, cell.project(params, x), state)
    return cell.update(params, a, state)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _recurrence(
    how: LoopConfig, params: PyTree, xs: PyTree, steps: StepFlags, state: PyTree, reset_state: PyTree
) -> tuple[PyTree, PyTree, Chunks]:
    """The loop over time: (final state, ys, what was saved)."""

    def chunk(state: PyTree, inputs: tuple[PyTree, StepFlags], _: None) -> tuple[PyTree, PyTree, Residuals | None]:
        xs, steps = inputs
        zs = how.cell.project(params, select(steps.taken, xs, None))
        return how.loop.forward(how, params, zs, steps, state, reset_state)

    return scan_chunks(chunk, state, (xs, steps), how.chunk, how.reverse)


@cache
def scan_loop(scan: tuning.Scan) -> Loop:
    """The loop by ``lax.scan``."""
    unroll = scan.unroll
    return Loop(partial(_scan, unroll), partial(_scan_tangent, unroll), lambda *run: tuning.max_chunk_size(scan, *run))


def _scan(
    unroll: int, how: LoopConfig, params: PyTree, zs: PyTree, steps: StepFlags, state: PyTree, reset_state: PyTree
) -> tuple[PyTree, PyTree, Residuals | None]:
    """The steps of a chunk, one after another."""
    cell = how.cell

    def take(state: PyTree, inputs: tuple[PyTree, StepFlags]) -> tuple[PyTree, Any]:
        z, steps = inputs
        entering = select(steps.carried, state, reset_state)
        a = cell.recur(params, z, entering)
        new, y = cell.update(params, a, entering)
        saved = Residuals(entering, a if how.remat == "gates" else None) if how.saves else None
        return select(steps.taken, new, state), (select(steps.taken, y, None), saved)

    state, (ys, saved) = lax.scan(take, state, (zs, steps), reverse=how.reverse, unroll=unroll)
    return state, ys, saved


@partial(_recurrence.defjvp, symbolic_zeros=True)
def _recurrence_tangent(how: LoopConfig, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    """Its tangent. The loop is called through its own rule again, so that higher derivatives take the same way."""
    params, xs, steps, *states = primals
    dparams, dxs = jax.tree.map(symbolic_zero_to_none, tangents[:2])
    dstate, dreset = jax.tree.map(instantiate_zero, tuple(states), tangents[3:])
    final, ys, saved = _recurrence(how._replace(saves=True), *primals)
    wide = (widen(dparams), widen(dreset))
    chunk = jax.checkpoint(partial(_tangent_chunk, how, params, *wide), prevent_cse=False)
    dfinal, dys, dsaved = scan_chunks(chunk, dstate, (xs, dxs, steps), how.chunk, how.reverse, saved)
    return (final, ys, saved if how.saves else NO_CHUNKS), (dfinal, dys, dsaved)


def _tangent_chunk(
    how: LoopConfig,
    params: PyTree,
    dparams: PyTree,
    dreset: PyTree,
    dstate: PyTree,
    inputs: tuple[PyTree, PyTree, StepFlags],
    saved: Residuals,
) -> tuple[PyTree, PyTree, Residuals | None]:
    """The tangent over a chunk, linear in ``dparams, dreset, dstate`` and ``dxs``; a None tangent is zero."""
    cell = how.cell
    (xs, dxs, steps), (entering, a) = inputs, saved
    dparams = cast(dparams, params)
    xs = select(steps.taken, xs, None)
    dxs = None if dxs is None else select(steps.taken, dxs, None)
    zs = cell.project(params, xs)
    recomputed, inflow = jvp_with_zeros(
        lambda params, xs: cell.recur(params, cell.project(params, xs), entering), (params, xs), (dparams, dxs)
    )
    a = recomputed if a is None else a
    used = drop_unused(lambda params: cell.update(params, a, entering), params, dparams)
    _, own = jvp_with_zeros(lambda params: cell.update(params, a, entering), (params,), (used,))
    return how.loop.tangent(how, params, StepResiduals(zs, a, entering, steps), inflow, own, dstate, dreset)


def _scan_tangent(
    unroll: int,
    how: LoopConfig,
    params: PyTree,
    known: StepResiduals,
    inflow: PyTree | None,
    own: PyTree | None,
    dstate: PyTree,
    dreset: PyTree,
) -> tuple[PyTree, PyTree, Residuals | None]:
    """The tangents of the steps of a chunk, one after another; what an element-wise step needs is computed before."""
    cell = how.cell
    coefficients, linear = linearize_steps(partial(cell.update, params), known.a, known.entering)

    @partial(jax.checkpoint, prevent_cse=False)
    def take(dstate: PyTree, inputs: tuple) -> tuple[PyTree, Any]:
        z, coefficients, inflow, own, steps, entering = inputs
        dentering = select(steps.carried, dstate, cast(dreset, dstate))
        _, da = jax.jvp(partial(cell.recur, params, z), (entering,), (dentering,))
        da = add(da, inflow)
        dnew, dy = add(linear(coefficients)(da, dentering), own)
        dsaved = Residuals(dentering, da if how.remat == "gates" else None) if how.saves else None
        return select(steps.taken, dnew, dstate), (select(steps.taken, dy, None), dsaved)

    each = (known.zs, coefficients, inflow, own, known.steps, known.entering)
    dstate, (dys, dsaved) = lax.scan(take, dstate, each, reverse=how.reverse, unroll=unroll)
    return dstate, dys, dsaved
