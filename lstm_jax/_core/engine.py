"""The recurrence over time for any cell, and its tangent, whose transpose is back-propagation through time.

Forward, time is cut into chunks: a chunk of inputs is projected in one matrix product, then a loop adds
each step's recurrent contribution and updates the state. The derivative is a ``custom_jvp``. Its rule knows the state
before each step, since the forward pass saved it, so all but the recurrence itself is linear algebra on a whole chunk
at once:

    forward     z = project(params, x)      a = recur(params, z, s)      s', y = update(params, a, s)
    chunk       da_direct = tangent of recur(params, project(params, x), s) along d(params) and dx
                dupdate = tangent of update along d(params), for cells that have parameters there
                tangent_map = tangent of update as a linear map for each step, its coefficients computed
    loop        ds', dy = tangent_map(da_direct + tangent of recur along ds, ds), plus dupdate

JAX transposes it. The transposed loop carries the cotangent of the state alone and has one product a step; the
transposed chunk holds the gradients of weights and inputs, in products over all its steps. Being a tangent rule,
it serves forward mode and every higher order as well.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax

from lstm_jax._core.chunks import NO_CHUNKS, Chunks, scan_chunks
from lstm_jax._core.steps import StepFlags, select
from lstm_jax._core.structs import Cell, PyTree
from lstm_jax._core.tangents import (
    cast_like,
    drop_unused,
    jvp_with_zeros,
    to_accumulator,
    zero_to_array,
    zero_to_none,
)


class LoopConfig(NamedTuple):
    """Static configuration of the loop over the steps of one chunk."""

    cell: Cell
    """the cell whose functions the loop calls"""
    reverse: bool
    """whether the last step is read first"""
    remat: str
    """``"gates"`` or ``"states"``: what the forward pass saves for the derivative"""
    unroll: int = 1
    """steps in a body of ``lax.scan``"""
    save_residuals: bool = False
    """whether the forward loop returns ``Residuals``"""


class Residuals(NamedTuple):
    """Values saved by the forward pass for the tangent rule, one per step."""

    prev_states: PyTree
    """the state from which each step started, leaves ``[chunk, *batch, ...]``"""
    pre_activations: PyTree | None
    """what ``recur`` returned, ``[chunk, *batch, 4H]`` for an LSTM; None if it is recomputed"""


class StepResiduals(NamedTuple):
    """Primal values of the steps of a chunk, at which their tangents are evaluated; leaves ``[chunk, ...]``."""

    zs: PyTree
    """what ``project`` returned"""
    pre_activations: PyTree
    """what ``recur`` returned"""
    prev_states: PyTree
    """the state from which each step started"""
    flags: StepFlags
    """which steps are taken, and which continue from the carried state"""


class Loop(NamedTuple):
    """A way to run the steps of a chunk, and their tangents; ``implementations.scan.LOOP`` serves every cell."""

    forward: Callable[..., tuple[PyTree, PyTree, Residuals | None]]
    """``forward(config, params, zs, flags, state, reset_state) -> (state, ys, residuals)``"""
    tangent: Callable[..., tuple[PyTree, PyTree, Residuals | None]]
    """``tangent(config, params, step_residuals, da_direct, dupdate, dstate, dreset) -> (dstate, dys, dresiduals)``,
    linear in the last four"""


class Plan(NamedTuple):
    """The loop that runs a recurrence, its configuration, and the size of the chunks of time."""

    loop: Loop
    config: LoopConfig
    max_chunk_steps: int
    """maximum number of steps in a chunk"""


def step(cell: Cell, params: PyTree, state: PyTree, x: jax.Array) -> tuple[PyTree, PyTree]:
    """Runs one step of a cell: ``x [*batch, D]`` to (state, y)."""
    a = cell.recur(params, cell.project(params, x), state)
    return cell.update(params, a, state)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def recurrence(
    plan: Plan, params: PyTree, xs: PyTree, flags: StepFlags, state: PyTree, reset_state: PyTree
) -> tuple[PyTree, PyTree, Chunks]:
    """Runs a cell over time, with the tangent rule below; the arguments are checked and complete.

    Args:
        plan: the loop, its static configuration and the maximum chunk size.
        params: as the cell's ``prepare`` returns them.
        xs: ``[T, *batch, D]``, or ``Inputs``.
        flags: which steps are taken, and which continue from the carried state.
        state: the state before the first step read, ``[*batch, H]``.
        reset_state: the state ``[*batch, H]`` from which the other steps start; None if all steps continue.
    Returns:
        (final state, ys ``[T, *batch, ...]``, residuals in chunks if ``plan.config.save_residuals``).
    """

    def run_chunk(state: PyTree, chunk: tuple[PyTree, StepFlags], _: None) -> tuple[PyTree, PyTree, Residuals | None]:
        xs, flags = chunk
        with jax.named_scope("input_projection"):
            zs = plan.config.cell.project(params, select(flags.taken, xs, None))
        with jax.named_scope("time_loop"):
            return plan.loop.forward(plan.config, params, zs, flags, state, reset_state)

    return scan_chunks(run_chunk, state, (xs, flags), plan.max_chunk_steps, plan.config.reverse)


def recurrence_in_segments(
    segment_steps: int,
    plan: Plan,
    params: PyTree,
    xs: PyTree,
    flags: StepFlags,
    state: PyTree,
    reset_state: PyTree,
) -> tuple[PyTree, PyTree, Chunks]:
    """Runs a cell over time like ``recurrence``, but saves only the state at the start of each segment.

    The backward pass recomputes each segment of ``segment_steps`` steps. Cotangents of all segments are summed, so the
    parameters are closed over in the accumulator dtype.
    """
    narrow = (params, reset_state)
    wide = to_accumulator(narrow)

    @partial(jax.checkpoint, prevent_cse=False)
    def run_segment(state: PyTree, segment: tuple[PyTree, StepFlags], saved: None) -> tuple[PyTree, PyTree, None]:
        params, reset_state = cast_like(wide, narrow)
        state, ys, _ = recurrence(plan, params, *segment, state, reset_state)
        return state, ys, None

    return scan_chunks(run_segment, state, (xs, flags), segment_steps, plan.config.reverse)


@partial(recurrence.defjvp, symbolic_zeros=True)
def _recurrence_tangent(plan: Plan, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    """The JVP rule of ``recurrence``; it calls ``recurrence`` itself, so higher derivatives use this rule too."""
    params, xs, flags, *states = primals
    dparams, dxs = jax.tree.map(zero_to_none, tangents[:2])
    dstate, dreset = jax.tree.map(zero_to_array, tuple(states), tangents[3:])
    plan_with_residuals = plan._replace(config=plan.config._replace(save_residuals=True))
    final, ys, residuals = recurrence(plan_with_residuals, *primals)
    tangent_chunk = jax.checkpoint(
        partial(_tangent_chunk, plan, params, to_accumulator(dparams), to_accumulator(dreset)), prevent_cse=False
    )
    dfinal, dys, dresiduals = scan_chunks(
        tangent_chunk, dstate, (xs, dxs, flags), plan.max_chunk_steps, plan.config.reverse, residuals
    )
    return (final, ys, residuals if plan.config.save_residuals else NO_CHUNKS), (dfinal, dys, dresiduals)


def _tangent_chunk(
    plan: Plan,
    params: PyTree,
    dparams: PyTree,
    dreset: PyTree,
    dstate: PyTree,
    chunk: tuple[PyTree, PyTree, StepFlags],
    residuals: Residuals,
) -> tuple[PyTree, PyTree, Residuals | None]:
    """The tangent over a chunk, linear in ``dparams, dreset, dstate`` and ``dxs``; a None tangent is zero."""
    cell = plan.config.cell
    xs, dxs, flags = chunk
    prev_states, saved_a = residuals
    dparams = cast_like(dparams, params)
    xs = select(flags.taken, xs, None)
    dxs = None if dxs is None else select(flags.taken, dxs, None)
    with jax.named_scope("input_projection_tangent"):
        zs = cell.project(params, xs)
        a, da_direct = jvp_with_zeros(
            lambda params, xs: cell.recur(params, cell.project(params, xs), prev_states), (params, xs), (dparams, dxs)
        )
        a = a if saved_a is None else saved_a  # one of them is dead code
        dparams = drop_unused(lambda params: cell.update(params, a, prev_states), params, dparams)
        _, dupdate = jvp_with_zeros(lambda params: cell.update(params, a, prev_states), (params,), (dparams,))
    with jax.named_scope("time_loop_tangent"):
        step_residuals = StepResiduals(zs, a, prev_states, flags)
        return plan.loop.tangent(plan.config, params, step_residuals, da_direct, dupdate, dstate, dreset)
