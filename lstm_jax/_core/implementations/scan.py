"""``implementation="scan"``: the steps of a chunk by ``lax.scan``, for every cell, device and derivative."""

from functools import partial
from typing import Any

import jax
from jax import lax

from lstm_jax._core.engine import Loop, LoopConfig, Residuals, StepResiduals
from lstm_jax._core.steps import StepFlags, select
from lstm_jax._core.structs import PyTree
from lstm_jax._core.tangents import add_trees, cast_like, linearize_steps


def run_steps(
    config: LoopConfig, params: PyTree, zs: PyTree, flags: StepFlags, state: PyTree, reset_state: PyTree
) -> tuple[PyTree, PyTree, Residuals | None]:
    """Runs the steps of a chunk, one after another."""
    cell = config.cell

    def step(state: PyTree, z_and_flags: tuple[PyTree, StepFlags]) -> tuple[PyTree, Any]:
        z, flags = z_and_flags
        prev_state = select(flags.carried, state, reset_state)
        a = cell.recur(params, z, prev_state)
        new_state, y = cell.update(params, a, prev_state)
        residuals = Residuals(prev_state, a if config.remat == "gates" else None) if config.save_residuals else None
        return select(flags.taken, new_state, state), (select(flags.taken, y, None), residuals)

    state, (ys, residuals) = lax.scan(step, state, (zs, flags), reverse=config.reverse, unroll=config.unroll)
    return state, ys, residuals


def run_tangent_steps(
    config: LoopConfig,
    params: PyTree,
    chunk: StepResiduals,
    da_direct: PyTree | None,
    dupdate: PyTree | None,
    dstate: PyTree,
    dreset: PyTree,
) -> tuple[PyTree, PyTree, Residuals | None]:
    """Runs the tangents of the steps of a chunk; what an element-wise step needs is computed for all steps before."""
    cell = config.cell
    coefficients, tangent_map = linearize_steps(partial(cell.update, params), chunk.pre_activations, chunk.prev_states)

    @partial(jax.checkpoint, prevent_cse=False)
    def step(dstate: PyTree, of_step: tuple) -> tuple[PyTree, Any]:
        z, coefficients, da_direct, dupdate, flags, prev_state = of_step
        dprev_state = select(flags.carried, dstate, cast_like(dreset, dstate))
        _, da = jax.jvp(partial(cell.recur, params, z), (prev_state,), (dprev_state,))
        da = add_trees(da, da_direct)
        dnew_state, dy = add_trees(tangent_map(coefficients)(da, dprev_state), dupdate)
        dresiduals = Residuals(dprev_state, da if config.remat == "gates" else None) if config.save_residuals else None
        return select(flags.taken, dnew_state, dstate), (select(flags.taken, dy, None), dresiduals)

    steps = (chunk.zs, coefficients, da_direct, dupdate, chunk.flags, chunk.prev_states)
    dstate, (dys, dresiduals) = lax.scan(step, dstate, steps, reverse=config.reverse, unroll=config.unroll)
    return dstate, dys, dresiduals


LOOP = Loop(run_steps, run_tangent_steps)
