"""The LSTM's loop in one kernel, and its back-propagation in another: arrays laid out for ``kernels`` and back.

The derivative is the engine's, whose chunks go through the ``Loop`` that is made here.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.interpreters import mlir

from lstm_jax._core.engine import Loop, LoopConfig, Residuals, StepResiduals
from lstm_jax._core.implementations import layout, linear, scan
from lstm_jax._core.steps import StepFlags, select
from lstm_jax._core.structs import LSTMState, PyTree
from lstm_jax.cells.dense import add_bias
from lstm_jax.cells.lstm import Coefficients, coefficients

Launch = Callable[..., Any] | None


@cache
def make_loop(launch: Launch) -> Loop:
    """The loop whose kernels are started by ``launch(kernel, *arrays)``, or called if that is None."""
    return Loop(partial(_forward, launch), partial(_tangent, launch))


def _forward(
    launch: Launch,
    config: LoopConfig,
    params: Any,
    zs: jax.Array,
    flags: StepFlags,
    state: LSTMState,
    reset_state: LSTMState | None,
) -> tuple[LSTMState, jax.Array, Residuals | None]:
    """Runs the steps of a chunk: zs ``[T, *batch, 4H]``."""
    batch, dtype = zs.shape[1:-1], state.h.dtype
    z, start, flat_flags, reset = _one_batch_axis(batch, add_bias(zs, params.bias), state, flags, reset_state)
    run = _states_by_kernel(launch, config.reverse, flat_flags is not None, layout.NUM_PARTS[dtype])
    h, c = run(_recurrent_kernel(params), z, *jax.tree.leaves((start, flat_flags, reset)))
    h, c = (part.reshape(len(part), *batch, -1) for part in (h, c))
    states = LSTMState(h.astype(dtype), c)
    final = jax.tree.map(lambda leaf: leaf[0 if config.reverse else -1], states)
    ys = select(flags.taken, states.h, None)
    if not config.save_residuals:
        return final, ys, None
    carried_in = jax.tree.map(partial(_shifted, reverse=config.reverse), state, states)
    prev_state = select(flags.carried, carried_in, reset_state)
    a = config.cell.recur(params, zs, prev_state) if config.remat == "gates" else None
    return final, ys, Residuals(prev_state, a)


def _tangent(
    launch: Launch,
    config: LoopConfig,
    params: Any,
    chunk: StepResiduals,
    da_direct: jax.Array | None,
    dupdate: None,
    dstate: LSTMState,
    dreset: LSTMState | None,
) -> tuple[LSTMState, jax.Array, Residuals | None]:
    """Runs the tangents of the steps; those of what is saved, in higher derivatives, come from the scan."""
    if config.save_residuals:
        return scan.run_tangent_steps(config, params, chunk, da_direct, dupdate, dstate, dreset)
    batch = chunk.pre_activations.shape[1:-1]
    slab = jnp.concatenate(coefficients(chunk.pre_activations, chunk.prev_states), axis=-1)
    da_direct = jnp.zeros_like(chunk.pre_activations) if da_direct is None else da_direct
    (da_direct, slab), start, flags, reset = _one_batch_axis(batch, (da_direct, slab), dstate, chunk.flags, dreset)
    linear_config = linear.LinearConfig(config.reverse, flags is not None, layout.NUM_PARTS[dstate.h.dtype], launch)
    always = jnp.ones(da_direct.shape[:2], bool)
    taken, carried = (always, always) if flags is None else flags
    reset = reset if reset is not None else LSTMState(*map(jnp.zeros_like, start))
    operands = linear.LinearOperands(_recurrent_kernel(params), slab, taken, carried)
    outputs = linear.propagate(linear_config, operands, linear.TangentInputs(da_direct, *start, *reset))
    final = LSTMState(outputs.h.reshape(dstate.h.shape).astype(dstate.h.dtype), outputs.c.reshape(dstate.c.shape))
    return final, outputs.ys.reshape(len(outputs.ys), *batch, -1).astype(dstate.h.dtype), None


class FlatCall(NamedTuple):
    """A call with one batch axis, in float32."""

    arrays: PyTree
    """``[T, B, ...]``"""
    state: LSTMState
    """``[B, H]``"""
    flags: tuple[jax.Array, jax.Array] | None
    """taken and carried, bool ``[T, B]``, as in ``steps.StepFlags``; None if all are set"""
    reset: LSTMState | None


def _one_batch_axis(
    batch: tuple[int, ...], arrays: PyTree, state: LSTMState, flags: StepFlags, reset: LSTMState | None
) -> FlatCall:
    def flatten(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(-1, leaf.shape[-1]).astype(jnp.float32)

    def flatten_timed(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(len(leaf), -1, *leaf.shape[1 + len(batch) :])

    arrays, state = jax.tree.map(flatten_timed, arrays), jax.tree.map(flatten, state)
    if flags.taken is None and flags.carried is None:
        return FlatCall(arrays, state, None, None)
    always = jnp.ones((len(jax.tree.leaves(arrays)[0]), *batch), bool)
    taken, carried = (flatten_timed(always if flag is None else flag) for flag in flags)
    return FlatCall(arrays, state, (taken, carried), jax.tree.map(flatten, reset))


def _recurrent_kernel(params: Any) -> jax.Array:
    """``[H, 4H]`` of parameters as the engine's loop gets them."""
    kernel: jax.Array = params.recurrent_kernel.kernel
    return kernel.astype(jnp.float32)


def _shifted(initial: jax.Array, states: jax.Array, *, reverse: bool) -> jax.Array:
    """The state before each step, from the states after each."""
    if reverse:
        return jnp.concatenate([states[1:], initial[None]])
    return jnp.concatenate([initial[None], states[:-1]])


def _states_by_kernel(launch: Launch, reverse: bool, flagged: bool, num_parts: int) -> Any:
    """``run(kernel [H, 4H], z [T, B, 4H], h, c, flags and reset state) -> h, c [T, B, H]``, also under ``vmap``."""

    @jax.custom_batching.custom_vmap
    def run(kernel: jax.Array, z: jax.Array, h: jax.Array, c: jax.Array, *optional: jax.Array) -> tuple[jax.Array, ...]:
        from lstm_jax._core.implementations import kernels

        hidden_size, num_rows = h.shape[-1], h.shape[0]
        flags = kernels.Flags(*map(layout.pad_flags, optional[:2])) if flagged else None
        reset = [layout.to_kernel_layout(leaf) for leaf in optional[2:]] if flagged else None
        gates = jnp.concatenate(layout.split_bfloat16(layout.gate_matrices(kernel, transpose=True), num_parts))
        states = _start(
            launch,
            partial(kernels.forward, reverse=reverse),
            layout.to_kernel_layout(layout.by_gate(z)),
            gates,
            (layout.to_kernel_layout(h), layout.to_kernel_layout(c)),
            flags,
            reset,
        )
        return tuple(layout.from_kernel_layout(leaf, num_rows, hidden_size) for leaf in states)

    @run.def_vmap
    def _(size: int, is_mapped: list[bool], kernel: jax.Array, *others: jax.Array) -> tuple:
        axes = [0 if mapped else None for mapped in is_mapped]
        if is_mapped[0]:
            spread = [
                jnp.broadcast_to(leaf, (size, *leaf.shape)) if axis is None else leaf
                for leaf, axis in zip(others, axes[1:], strict=True)
            ]
            return jax.lax.map(lambda arguments: run(*arguments), (kernel, *spread)), (True, True)
        batch_axes = [1, 0, 0, *([1, 1, 0, 0] if flagged else [])]
        joined = map(linear.join_axis, others, axes[1:], [size] * len(others), batch_axes)
        states = (leaf.reshape(len(leaf), size, -1, leaf.shape[-1]) for leaf in run(kernel, *joined))
        return tuple(jnp.moveaxis(leaf, 1, 0) for leaf in states), (True, True)

    return run


def _backpropagate(*arrays: jax.Array, config: linear.LinearConfig) -> list[jax.Array]:
    """The kernel that ``linear.backpropagate_p`` runs."""
    from lstm_jax._core.implementations import kernels

    count = len(linear.LinearOperands._fields)
    operands, cotangents = linear.LinearOperands(*arrays[:count]), linear.TangentOutputs(*arrays[count:])
    hidden_size, num_rows = cotangents.h.shape[-1], cotangents.h.shape[0]
    flags = kernels.Flags(*map(layout.pad_flags, (operands.taken, operands.carried))) if config.flagged else None
    gates = layout.split_bfloat16(layout.gate_matrices(operands.kernel, transpose=False), config.num_parts)
    dz, dfirst, dreset = _start(
        config.launch,
        partial(kernels.backward, reverse=config.reverse),
        layout.to_kernel_layout(layout.by_gate(operands.coefficients, len(Coefficients._fields))),
        jnp.concatenate(gates),
        layout.to_kernel_layout(cotangents.ys),
        (layout.to_kernel_layout(cotangents.h), layout.to_kernel_layout(cotangents.c)),
        flags,
    )
    dz = jnp.moveaxis(layout.from_kernel_layout(dz, num_rows, hidden_size), 1, 2).reshape(len(dz), num_rows, -1)
    dstates = [layout.from_kernel_layout(leaf, num_rows, hidden_size) for leaf in (*dfirst, *dreset)]
    return [dz, *dstates, *[jnp.zeros_like(cotangents.h)] * (4 - len(dstates))]


def _on_other_platforms(*arrays: jax.Array, config: linear.LinearConfig) -> list[jax.Array]:
    if config.launch is None:
        return linear.scan_transposed(*arrays, config=config)
    return _backpropagate(*arrays, config=config)


mlir.register_lowering(linear.backpropagate_p, mlir.lower_fun(_on_other_platforms, multiple_results=True))
mlir.register_lowering(linear.backpropagate_p, mlir.lower_fun(_backpropagate, multiple_results=True), platform="cuda")


def _start(launch: Launch, kernel: Callable, *arrays: Any) -> Any:
    return kernel(*arrays) if launch is None else launch(kernel, *arrays)
