"""The tangent of the LSTM's loop as a primitive, so that its transpose, back-propagation, can be a kernel.

    forward     da = da_direct + dh R        dh, dc = step_tangent(coefficients, da, (dh, dc))      see ``cells.lstm``
    transposed  dz from the cotangents of every output and of the final state, last step first

JAX transposes a scan by itself; a kernel it cannot. Each of the two primitives is the other's transpose. Both mean the
scan below: it is how they are differentiated, what forward mode runs, and what runs where there is no kernel.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from lstm_jax._core import tuning
from lstm_jax._core.steps import select
from lstm_jax._core.structs import LSTMState
from lstm_jax.cells.lstm import Coefficients, step_tangent


class LinearConfig(NamedTuple):
    """What is static."""

    reverse: bool
    flagged: bool
    """whether a step may not be taken, or not carry the state on; else the flags are not read"""
    num_parts: int
    """bfloat16 parts in which a device's own product takes its factors, see ``kernels``"""
    launch: Callable[..., Any] | None
    """how a kernel is started on other devices than CUDA's; None means that the scan runs there"""


class LinearOperands(NamedTuple):
    """What the recurrence depends on nonlinearly; the tangent is taken at these."""

    kernel: jax.Array
    """``[H, 4H]``"""
    coefficients: jax.Array
    """``[T, B, 6H]``, the ``Coefficients`` side by side"""
    taken: jax.Array
    """bool ``[T, B]``, as in ``steps.StepFlags``"""
    carried: jax.Array
    """bool ``[T, B]``"""


class TangentInputs(NamedTuple):
    """What the recurrence is linear in: arrays in the accumulator dtype."""

    da_direct: jax.Array
    """``[T, B, 4H]``"""
    h: jax.Array
    """of the state before the first step read, ``[B, H]``"""
    c: jax.Array
    """``[B, H]``"""
    reset_h: jax.Array
    """of the reset state, ``[B, H]``"""
    reset_c: jax.Array
    """``[B, H]``"""


class TangentOutputs(NamedTuple):
    """What the recurrence returns."""

    ys: jax.Array
    """``[T, B, H]``"""
    h: jax.Array
    """of the final state, ``[B, H]``"""
    c: jax.Array
    """``[B, H]``"""


NUM_OPERANDS = len(LinearOperands._fields)


def propagate(config: LinearConfig, operands: LinearOperands, tangents: TangentInputs) -> TangentOutputs:
    """The tangent of every output and of the final state."""
    return TangentOutputs(*propagate_p.bind(*operands, *tangents, config=config))


def _scan(*arrays: jax.Array, config: LinearConfig) -> list[jax.Array]:
    operands, tangents = LinearOperands(*arrays[:NUM_OPERANDS]), TangentInputs(*arrays[NUM_OPERANDS:])
    reset = LSTMState(tangents.reset_h, tangents.reset_c)

    def step(dstate: LSTMState, of_step: tuple) -> tuple[LSTMState, jax.Array]:
        da_direct, coefficients, taken, carried = of_step
        taken, carried = (taken, carried) if config.flagged else (None, None)
        dprev_state = select(carried, dstate, reset)
        da = da_direct + jnp.matmul(dprev_state.h, operands.kernel, precision="highest")
        slices = jnp.split(coefficients, len(Coefficients._fields), axis=-1)
        dnew_state = step_tangent(Coefficients(*slices), da, dprev_state)
        return select(taken, dnew_state, dstate), select(taken, dnew_state.h, None)

    steps = (tangents.da_direct, operands.coefficients, operands.taken, operands.carried)
    unroll = tuning.SCAN_CONFIGS["cuda"].unroll
    dstate, ys = lax.scan(step, LSTMState(tangents.h, tangents.c), steps, reverse=config.reverse, unroll=unroll)
    return [ys, *dstate]


def scan_transposed(*arrays: jax.Array, config: LinearConfig) -> list[jax.Array]:
    """What the second primitive means, as JAX transposes the first.

    From ``(*LinearOperands, *TangentOutputs)`` to ``[*TangentInputs]``, cotangents in the place of tangents.
    """
    operands, cotangents = arrays[:NUM_OPERANDS], arrays[NUM_OPERANDS:]
    like = jax.eval_shape(
        lambda *outputs: _zero_inputs(LinearOperands(*operands), TangentOutputs(*outputs)), *cotangents
    )
    transpose = jax.linear_transpose(lambda *tangents: _scan(*operands, *tangents, config=config), *like)
    return list(transpose(list(cotangents)))


def _zero_inputs(operands: LinearOperands, outputs: TangentOutputs) -> TangentInputs:
    """Zeros of the shapes that the recurrence is linear in."""
    da_direct = jnp.zeros((*outputs.ys.shape[:-1], operands.kernel.shape[-1]), outputs.ys.dtype)
    return TangentInputs(da_direct, *([jnp.zeros_like(outputs.h)] * 4))


def _define(name: str, meaning: Callable) -> Primitive:
    """A primitive with several results that means a function, by which it is differentiated and batched."""
    primitive = Primitive(name)
    primitive.multiple_results = True

    def shapes(*avals: Any, config: LinearConfig) -> Any:
        return jax.make_jaxpr(partial(meaning, config=config))(*avals).out_avals

    def jvp(primals: Sequence, tangents: Sequence, config: LinearConfig) -> tuple:
        tangents = [
            jnp.zeros_like(primal) if type(tangent) is ad.Zero else tangent
            for primal, tangent in zip(primals, tangents, strict=True)
        ]
        floating = [k for k, primal in enumerate(primals) if jnp.issubdtype(primal.dtype, jnp.floating)]

        def of_floating(*changing: jax.Array) -> list[jax.Array]:
            filled = list(primals)
            for k, leaf in zip(floating, changing, strict=True):
                filled[k] = leaf
            return meaning(*filled, config=config)

        return jax.jvp(of_floating, [primals[k] for k in floating], [tangents[k] for k in floating])

    primitive.def_impl(lambda *arrays, config: jax.jit(partial(primitive.bind, config=config))(*arrays))
    primitive.def_abstract_eval(shapes)
    ad.primitive_jvps[primitive] = jvp
    batching.primitive_batchers[primitive] = partial(_batch, primitive, meaning)
    mlir.register_lowering(primitive, mlir.lower_fun(meaning, multiple_results=True))
    return primitive


def _batch(primitive: Primitive, meaning: Callable, arrays: Sequence, axes: Sequence, config: LinearConfig) -> tuple:
    """Rows of a mapped axis become rows of the batch; with a kernel for each, the meaning is mapped."""
    size = next(array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None)
    if axes[0] is not None:
        results = jax.vmap(partial(meaning, config=config), tuple(axes))(*arrays)
        return results, [0] * len(results)
    kernel, *others = arrays
    batch_axes = [1 if timed else 0 for timed in _has_time(len(arrays))[1:]]
    merged = [
        join_axis(array, axis, size, batch_axis)
        for array, axis, batch_axis in zip(others, axes[1:], batch_axes, strict=True)
    ]
    results, result_axes = [], []
    for array in primitive.bind(kernel, *merged, config=config):
        batch_axis = 1 if array.ndim == 3 else 0
        results.append(array.reshape(*array.shape[:batch_axis], size, -1, *array.shape[batch_axis + 1 :]))
        result_axes.append(batch_axis)
    return results, result_axes


def join_axis(array: jax.Array, axis: int | None, size: int, batch_axis: int) -> jax.Array:
    """The array whose mapped axis, or a new one if that is None, is joined with its batch axis."""
    if axis is None:
        shape = (*array.shape[:batch_axis], size, *array.shape[batch_axis:])
        array = jnp.broadcast_to(jnp.expand_dims(array, batch_axis), shape)
    else:
        array = jnp.moveaxis(array, axis, batch_axis)
    return array.reshape(*array.shape[:batch_axis], -1, *array.shape[batch_axis + 2 :])


def _has_time(count: int) -> list[bool]:
    """Which arguments begin with time; after the operands, only the first."""
    return [False, True, True, True, True, *[False] * (count - NUM_OPERANDS - 1)]


propagate_p = _define("lstm_propagate", _scan)
backpropagate_p = _define("lstm_backpropagate", scan_transposed)


def _transpose(transposed: Primitive, cotangents: Sequence, *arrays: Any, config: LinearConfig) -> list:
    operands = arrays[:NUM_OPERANDS]
    filled = [ad.instantiate_zeros(cotangent) for cotangent in cotangents]
    return [None] * NUM_OPERANDS + list(transposed.bind(*operands, *filled, config=config))


ad.primitive_transposes[propagate_p] = partial(_transpose, backpropagate_p)
ad.primitive_transposes[backpropagate_p] = partial(_transpose, propagate_p)
