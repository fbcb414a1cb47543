"""The tangent of the LSTM's loop as a primitive, so that its transpose, back-propagation, can be a kernel.

    forward     da = inflow + dh R        dh, dc = linear(coefficients)(da, dh, dc)          see ``cells.lstm``
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
from lstm_jax.cells.lstm import Coefficients
from lstm_jax.cells.lstm import linear as step_tangent


class LinearOperands(NamedTuple):
    """What the recurrence is linear for."""

    kernel: jax.Array
    """``[H, 4H]``"""
    by: jax.Array
    """``[T, B, 6H]``, the ``Coefficients`` side by side"""
    taken: jax.Array
    """bool ``[T, B]``, as in ``steps.StepFlags``"""
    carried: jax.Array


class TangentInputs(NamedTuple):
    """What it is linear in: arrays in the accumulator dtype."""

    inflow: jax.Array
    """``[T, B, 4H]``"""
    h: jax.Array
    """of the state before the first step read, ``[B, H]``"""
    c: jax.Array
    reset_h: jax.Array
    reset_c: jax.Array


class TangentOutputs(NamedTuple):
    """What comes of it."""

    ys: jax.Array
    """``[T, B, H]``"""
    h: jax.Array
    """of the final state, ``[B, H]``"""
    c: jax.Array


class How(NamedTuple):
    """What is static."""

    reverse: bool
    flagged: bool
    """whether a step may not be taken, or not carry the state on; else the flags are not read"""
    parts: int
    """in which a device's own product takes its factors, see ``kernels``"""


def propagate(how: How, fixed: LinearOperands, moves: TangentInputs) -> TangentOutputs:
    """The tangent of every output and of the final state."""
    return TangentOutputs(*propagate_p.bind(*fixed, *moves, how=how))


def _scan(*arrays: jax.Array, how: How) -> list[jax.Array]:
    fixed, moves = (
        LinearOperands(*arrays[: len(LinearOperands._fields)]),
        TangentInputs(*arrays[len(LinearOperands._fields) :]),
    )
    reset = LSTMState(moves.reset_h, moves.reset_c)

    def take(dstate: LSTMState, each: tuple) -> tuple[LSTMState, jax.Array]:
        inflow, by, taken, carried = each
        taken, carried = (taken, carried) if how.flagged else (None, None)
        entering = select(carried, dstate, reset)
        da = inflow + jnp.matmul(entering.h, fixed.kernel, precision="highest")
        new = step_tangent(Coefficients(*jnp.split(by, len(Coefficients._fields), axis=-1)), da, entering)
        return select(taken, new, dstate), select(taken, new.h, None)

    each = (moves.inflow, fixed.by, fixed.taken, fixed.carried)
    unroll = tuning.scan_config("gpu").unroll
    dstate, ys = lax.scan(take, LSTMState(moves.h, moves.c), each, reverse=how.reverse, unroll=unroll)
    return [ys, *dstate]


def scan_transposed(*arrays: jax.Array, how: How) -> list[jax.Array]:
    """What the second primitive means, as JAX transposes the first: ``(*LinearOperands, *TangentOutputs) -> [*TangentInputs]``."""
    fixed, back = arrays[: len(LinearOperands._fields)], arrays[len(LinearOperands._fields) :]
    like = jax.eval_shape(lambda *moved: _moves_like(LinearOperands(*fixed), TangentOutputs(*moved)), *back)
    transpose = jax.linear_transpose(lambda *moves: _scan(*fixed, *moves, how=how), *like)
    return list(transpose(list(back)))


def _moves_like(fixed: LinearOperands, moved: TangentOutputs) -> TangentInputs:
    """Zeros of the shapes of what is moved."""
    inflow = jnp.zeros((*moved.ys.shape[:-1], fixed.kernel.shape[-1]), moved.ys.dtype)
    return TangentInputs(inflow, *([jnp.zeros_like(moved.h)] * 4))


def _define(name: str, meaning: Callable) -> Primitive:
    """A primitive with several results that means a function, by which it is differentiated and batched."""
    primitive = Primitive(name)
    primitive.multiple_results = True

    def shapes(*avals: Any, how: How) -> Any:
        return jax.make_jaxpr(partial(meaning, how=how))(*avals).out_avals

    def tangent(primals: Sequence, tangents: Sequence, how: How) -> tuple:
        filled = [
            jnp.zeros_like(primal) if type(tangent) is ad.Zero else tangent
            for primal, tangent in zip(primals, tangents, strict=True)
        ]
        moving = [k for k, primal in enumerate(primals) if jnp.issubdtype(primal.dtype, jnp.floating)]

        def of_moving(*moved: jax.Array) -> list[jax.Array]:
            every = list(primals)
            for k, one in zip(moving, moved, strict=True):
                every[k] = one
            return meaning(*every, how=how)

        return jax.jvp(of_moving, [primals[k] for k in moving], [filled[k] for k in moving])

    primitive.def_impl(lambda *arrays, how: jax.jit(partial(primitive.bind, how=how))(*arrays))
    primitive.def_abstract_eval(shapes)
    ad.primitive_jvps[primitive] = tangent
    batching.primitive_batchers[primitive] = partial(_batch, primitive, meaning)
    mlir.register_lowering(primitive, mlir.lower_fun(meaning, multiple_results=True))
    return primitive


def _batch(primitive: Primitive, meaning: Callable, arrays: Sequence, axes: Sequence, how: How) -> tuple:
    """Rows of a mapped axis become rows of the batch; with a kernel for each, the meaning is mapped."""
    size = next(array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None)
    if axes[0] is not None:
        found = jax.vmap(partial(meaning, how=how), tuple(axes))(*arrays)
        return found, [0] * len(found)
    kernel, *others = arrays
    places = [1 if time else 0 for time in _has_time(len(arrays))[1:]]
    merged = [join_axis(one, axis, size, place) for one, axis, place in zip(others, axes[1:], places, strict=True)]
    found = primitive.bind(kernel, *merged, how=how)
    parted, axes_out = [], []
    for array in found:
        place = 1 if array.ndim == 3 else 0
        parted.append(array.reshape(*array.shape[:place], size, -1, *array.shape[place + 1 :]))
        axes_out.append(place)
    return parted, axes_out


def join_axis(array: jax.Array, axis: int | None, size: int, place: int) -> jax.Array:
    """The array whose mapped axis, or a new one if that is None, is joined with its batch axis at ``place``."""
    if axis is None:
        moved = jnp.broadcast_to(jnp.expand_dims(array, place), (*array.shape[:place], size, *array.shape[place:]))
    else:
        moved = jnp.moveaxis(array, axis, place)
    return moved.reshape(*moved.shape[:place], -1, *moved.shape[place + 2 :])


def _has_time(count: int) -> list[bool]:
    """Which arguments begin with time; after the fixed ones, only the first."""
    moving = count - len(LinearOperands._fields)
    return [False, True, True, True, True, *[False] * (moving - 1)]


propagate_p = _define("lstm_propagate", _scan)
backpropagate_p = _define("lstm_backpropagate", scan_transposed)


def _transpose(other: Primitive, cotangents: Sequence, *arrays: Any, how: How) -> list:
    fixed = arrays[: len(LinearOperands._fields)]
    filled = [ad.instantiate_zeros(one) for one in cotangents]
    return [None] * len(fixed) + list(other.bind(*fixed, *filled, how=how))


ad.primitive_transposes[propagate_p] = partial(_transpose, backpropagate_p)
ad.primitive_transposes[backpropagate_p] = partial(_transpose, propagate_p)
