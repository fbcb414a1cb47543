"""``implementation="mosaic_gpu"``: the LSTM's loop in one kernel, and its back-propagation in another.

This file lays the arrays out for ``kernels`` and back; the derivative is the engine's, whose chunks go through
``LOOP``. Small layers only: the recurrent kernel has to fit in the shared memory of one multiprocessor.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.interpreters import mlir

from lstm_jax._core import tuning
from lstm_jax._core.engine import Loop, LoopConfig, Residuals, StepResiduals, scan_loop
from lstm_jax._core.implementations import layout, linear
from lstm_jax._core.steps import StepFlags, select
from lstm_jax._core.structs import LSTMState, PyTree
from lstm_jax.cells.dense import add_bias
from lstm_jax.cells.lstm import Coefficients, coefficients

PARTS = {jnp.dtype(jnp.bfloat16): 1, jnp.dtype(jnp.float32): 2}
"""Bfloat16 parts of a factor by the dtype of xs."""
MOST_UNITS = {1: 128, 2: 64}
"""H by parts: ``8 P H^2`` bytes of shared memory beside what the groups exchange, of 227 KiB on Hopper."""
CAPABILITY = 9.0
"""The least compute capability: Hopper's."""
INTERPRET: Callable[..., Any] | None = None
"""``INTERPRET(kernel, *arrays)``, with which tests run a function of ``kernels`` on any device; None calls it."""


def why_not(xs: jax.Array, units: int) -> str | None:
    """Why the kernel cannot run this layer on the default device, or None if it can."""
    if INTERPRET is None:
        device = jax.devices()[0]
        capability = getattr(device, "compute_capability", None) if device.platform == "gpu" else None
        if capability is None or float(capability) < CAPABILITY:
            return f"it needs an NVIDIA GPU from Hopper on, the default device is {device.device_kind}"
    if jax.__version_info__ < (0, 11):
        return f"its kernel is written for jax 0.11 and newer, this is {jax.__version__}"
    parts = PARTS.get(xs.dtype)
    if parts is None:
        return f"its kernel is for {' and '.join(map(str, PARTS))}, xs is {xs.dtype}"
    if units > MOST_UNITS[parts]:
        return f"its recurrent kernel of {units} units does not fit; at most {MOST_UNITS[parts]} in {xs.dtype}"
    if not all(map(tuning.is_concrete, xs.shape)):
        return "its kernel is compiled for known sizes, and a size of xs is a symbol"
    return None


def _forward(
    how: LoopConfig, params: Any, zs: jax.Array, steps: StepFlags, state: LSTMState, reset_state: LSTMState | None
) -> tuple[LSTMState, jax.Array, Residuals | None]:
    """The steps of a chunk: zs ``[T, *batch, 4H]``."""
    batch, dtype = zs.shape[1:-1], state.h.dtype
    z, start, flags, reset = _one_batch_axis(batch, add_bias(zs, params.bias), state, steps, reset_state)
    run = _states_by_kernel(how.reverse, flags is not None, PARTS[dtype])
    found = run(_kernel_of(params), z, *jax.tree.leaves((start, flags, reset)))
    h, c = (one.reshape(len(one), *batch, -1) for one in found)
    after = LSTMState(h.astype(dtype), c)
    final = jax.tree.map(lambda leaf: leaf[0 if how.reverse else -1], after)
    ys = select(steps.taken, after.h, None)
    if not how.saves:
        return final, ys, None
    before = jax.tree.map(partial(_shifted, reverse=how.reverse), state, after)
    entering = select(steps.carried, before, reset_state)
    a = how.cell.recur(params, zs, entering) if how.remat == "gates" else None
    return final, ys, Residuals(entering, a)


def _tangent(
    how: LoopConfig,
    params: Any,
    known: StepResiduals,
    inflow: jax.Array | None,
    own: None,
    dstate: LSTMState,
    dreset: LSTMState | None,
) -> tuple[LSTMState, jax.Array, Residuals | None]:
    """Their tangents. Those of what is saved, in higher derivatives, come from the scan."""
    if how.saves:
        return scan_loop(tuning.scan_config("gpu")).tangent(how, params, known, inflow, own, dstate, dreset)
    batch = known.a.shape[1:-1]
    by = jnp.concatenate(coefficients(known.a, known.entering), axis=-1)
    inflow = jnp.zeros_like(known.a) if inflow is None else inflow
    (inflow, by), start, flags, reset = _one_batch_axis(batch, (inflow, by), dstate, known.steps, dreset)
    settings = linear.How(how.reverse, flags is not None, PARTS[dstate.h.dtype])
    always = jnp.ones(inflow.shape[:2], bool)
    taken, carried = (always, always) if flags is None else flags
    reset = reset if reset is not None else LSTMState(*map(jnp.zeros_like, start))
    fixed = linear.LinearOperands(_kernel_of(params), by, taken, carried)
    moved = linear.propagate(settings, fixed, linear.TangentInputs(inflow, *start, *reset))
    final = LSTMState(moved.h.reshape(dstate.h.shape).astype(dstate.h.dtype), moved.c.reshape(dstate.c.shape))
    return final, moved.ys.reshape(len(moved.ys), *batch, -1).astype(dstate.h.dtype), None


LOOP = Loop(_forward, _tangent, tuning.max_kernel_chunk_size)


class Flat(NamedTuple):
    """A call with one batch axis, in float32."""

    arrays: PyTree
    """``[T, B, ...]``"""
    state: LSTMState
    """``[B, H]``"""
    flags: tuple[jax.Array, jax.Array] | None
    """bool ``[T, B]``, as in ``steps.StepFlags``; None if all are set"""
    reset: LSTMState | None


def _one_batch_axis(
    batch: tuple[int, ...], arrays: PyTree, state: LSTMState, steps: StepFlags, reset: LSTMState | None
) -> Flat:
    def flat(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(-1, leaf.shape[-1]).astype(jnp.float32)

    def timed(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(len(leaf), -1, *leaf.shape[1 + len(batch) :])

    arrays, state = jax.tree.map(timed, arrays), jax.tree.map(flat, state)
    if steps.taken is None and steps.carried is None:
        return Flat(arrays, state, None, None)
    always = jnp.ones((len(jax.tree.leaves(arrays)[0]), *batch), bool)
    taken, carried = (timed(always if one is None else one) for one in steps)
    return Flat(arrays, state, (taken, carried), jax.tree.map(flat, reset))


def _kernel_of(params: Any) -> jax.Array:
    """``[H, 4H]`` of parameters as the engine's loop gets them."""
    kernel: jax.Array = params.recurrent_kernel.kernel
    return kernel.astype(jnp.float32)


def _shifted(first: jax.Array, after: jax.Array, *, reverse: bool) -> jax.Array:
    """What was there before each step, from what is there after it."""
    if reverse:
        return jnp.concatenate([after[1:], first[None]])
    return jnp.concatenate([first[None], after[:-1]])


def _states_by_kernel(reverse: bool, flagged: bool, parts: int) -> Any:
    """``run(kernel [H, 4H], z [T, B, 4H], h, c, flags and reset state) -> h, c [T, B, H]``, also under ``vmap``."""

    @jax.custom_batching.custom_vmap
    def run(kernel: jax.Array, z: jax.Array, h: jax.Array, c: jax.Array, *more: jax.Array) -> tuple[jax.Array, ...]:
        from lstm_jax._core.implementations import kernels

        units, rows = h.shape[-1], h.shape[0]
        flags = kernels.Flags(*(layout.columns(one.astype(jnp.float32), 1.0) for one in more[:2])) if flagged else None
        reset = [layout.lay_out(one) for one in more[2:]] if flagged else None
        gates = jnp.concatenate(layout.split(layout.square(kernel, transpose=True), parts))
        found = _launch(
            partial(kernels.forward, reverse=reverse),
            layout.lay_out(layout.by_gate(z)),
            gates,
            (layout.lay_out(h), layout.lay_out(c)),
            flags,
            reset,
        )
        return tuple(layout.from_kernel_layout(one, rows, units) for one in found)

    @run.def_vmap
    def _(size: int, mapped: list[bool], kernel: jax.Array, *others: jax.Array) -> tuple:
        axes = [0 if one else None for one in mapped]
        if mapped[0]:
            spread = [
                jnp.broadcast_to(one, (size, *one.shape)) if axis is None else one
                for one, axis in zip(others, axes[1:], strict=True)
            ]
            return jax.lax.map(lambda one: run(*one), (kernel, *spread)), (True, True)
        places = [1, 0, 0, *([1, 1, 0, 0] if flagged else [])]
        joined = map(linear.join_axis, others, axes[1:], [size] * len(others), places)
        parted = (one.reshape(len(one), size, -1, one.shape[-1]) for one in run(kernel, *joined))
        return tuple(jnp.moveaxis(one, 1, 0) for one in parted), (True, True)

    return run


def _backpropagate(*arrays: jax.Array, how: linear.How) -> list[jax.Array]:
    """The kernel behind ``linear.backpropagate_p``."""
    from lstm_jax._core.implementations import kernels

    count = len(linear.LinearOperands._fields)
    fixed, moved = linear.LinearOperands(*arrays[:count]), linear.TangentOutputs(*arrays[count:])
    units, rows = moved.h.shape[-1], moved.h.shape[0]
    flags = (fixed.taken, fixed.carried) if how.flagged else None
    gates = jnp.concatenate(layout.split(layout.square(fixed.kernel, transpose=False), how.parts))
    dz, first, reset = _launch(
        partial(kernels.backward, reverse=how.reverse),
        layout.lay_out(layout.by_gate(fixed.by, len(Coefficients._fields))),
        gates,
        layout.lay_out(moved.ys),
        (layout.lay_out(moved.h), layout.lay_out(moved.c)),
        None if flags is None else kernels.Flags(*(layout.columns(one.astype(jnp.float32), 1.0) for one in flags)),
    )
    dz = jnp.moveaxis(layout.from_kernel_layout(dz, rows, units), 1, 2).reshape(len(dz), rows, -1)
    states = [layout.from_kernel_layout(one, rows, units) for one in (*first, *reset)]
    return [dz, *states, *[jnp.zeros_like(moved.h)] * (4 - len(states))]


def _on_other_devices(*arrays: jax.Array, how: linear.How) -> list[jax.Array]:
    return _backpropagate(*arrays, how=how) if INTERPRET is not None else linear.scan_transposed(*arrays, how=how)


mlir.register_lowering(linear.backpropagate_p, mlir.lower_fun(_on_other_devices, multiple_results=True))
mlir.register_lowering(linear.backpropagate_p, mlir.lower_fun(_backpropagate, multiple_results=True), platform="cuda")


def _launch(kernel: Callable, *arrays: Any) -> Any:
    return kernel(*arrays) if INTERPRET is None else INTERPRET(kernel, *arrays)
