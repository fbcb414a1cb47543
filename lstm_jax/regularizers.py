"""Regularisers for any cell: masks drawn from a key outside the loop, and penalties.

A mask that changes by step is drawn from ``fold_in(key, t)`` for each absolute step ``t``: a run cut in two, the second
started with ``start=``, has the numbers of the whole. Rates are probabilities of dropping. A rate that is the Python
number 0.0 changes nothing, in the compiled program either; a traced rate works, for populations.

    xs = locked_dropout(key_x, xs, 0.3)                                    at training only
    params = drop_connect(key_r, params, 0.5)
    cell, inputs = zoneout(key_z, cells.LSTM, xs, LSTMState(h=0.05, c=0.5), state)
    state, ys = unroll(cell, params, inputs)
    loss = task(ys) + temporal_activation_penalty(ys) + penalty(params, l2=1e-6, names="kernel")
"""

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.structs import Cell, Inputs, LSTMState, PyTree, input_sequence
from lstm_jax.cells.gates import GateSpec
from lstm_jax.cells.inputs import with_inputs
from lstm_jax.cells.variants import lstm_variant, masked_lstm_variant

Rate = float | jax.Array


def check_rate(name: str, rate: Rate) -> None:
    """A probability below 1, as far as it is known now."""
    if not isinstance(rate, jax.core.Tracer) and not 0 <= float(np.asarray(rate)) < 1:  # on the host, under jit too
        raise ValueError(f"{name}: got {rate}, want a rate from 0 to below 1")


def is_zero_rate(rate: Rate) -> bool:
    """Whether nothing is to be compiled: the Python number 0."""
    return isinstance(rate, int | float) and rate == 0


def scaled_mask(key: jax.Array, rate: Rate, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """0 with probability ``rate``, else 1 / (1 - rate), so that the expectation is 1."""
    kept = jax.random.bernoulli(key, 1 - rate, shape)
    return jnp.where(kept, (1 / (1 - jnp.asarray(rate, jnp.float32))).astype(dtype), jnp.zeros((), dtype))


def locked_dropout(key: jax.Array, xs: jax.Array, rate: Rate) -> jax.Array:
    """Variational dropout of inputs or outputs ``[T, *batch, D]``: one mask for all steps (Gal and Ghahramani 2016,
    arXiv:1512.05287)."""
    check_rate("rate", rate)
    return xs if is_zero_rate(rate) else xs * scaled_mask(key, rate, (1, *xs.shape[1:]), xs.dtype)


def step_dropout(key: jax.Array, xs: jax.Array, rate: Rate, start: int | jax.Array = 0) -> jax.Array:
    """Dropout with a new mask at each step; ``start`` is the absolute step of ``xs[0]``."""
    check_rate("rate", rate)
    if is_zero_rate(rate):
        return xs
    return xs * _by_step(key, start, xs.shape[0], lambda key: scaled_mask(key, rate, xs.shape[1:], xs.dtype))


def embedding_dropout(key: jax.Array, table: jax.Array, rate: Rate) -> jax.Array:
    """Drops whole rows of an embedding ``[words, D]``: the same word at every place (Gal and Ghahramani 2016)."""
    check_rate("rate", rate)
    return table if is_zero_rate(rate) else table * scaled_mask(key, rate, (table.shape[0], 1), table.dtype)


def drop_connect(
    key: jax.Array,
    params: PyTree,
    rate: Rate,
    *,
    names: tuple[str, ...] = ("recurrent_kernel",),
    rows: bool = False,
) -> PyTree:
    """Drops weights of these parameters, the same at all steps (Wan et al. 2013; for LSTMs Merity, Keskar and Socher
    2018, arXiv:1708.02182).

    Args:
        rows: whether whole rows are dropped, all that a unit says, instead of single weights.
    """
    check_rate("rate", rate)
    absent = [name for name in names if not hasattr(params, name)]
    if absent:
        raise ValueError(f"names: got {absent[0]!r}, want some of {', '.join(map(repr, params._fields))}")
    if is_zero_rate(rate):
        return params
    dropped = {}
    for name, part_key in zip(names, jax.random.split(key, len(names)), strict=True):
        kernel = getattr(params, name)
        shape = (*kernel.shape[:-1], 1) if rows else kernel.shape
        dropped[name] = kernel * scaled_mask(part_key, rate, shape, kernel.dtype)
    return params._replace(**dropped)


class MaskedParams(NamedTuple):
    """Parameters, and what multiplies the visible part of the state before the recurrent product."""

    params: PyTree
    mask: jax.Array
    """``[*batch, H]``, the same at all steps"""


def recurrent_dropout(key: jax.Array, cell: Cell, params: PyTree, rate: Rate, state: PyTree) -> tuple[Cell, PyTree]:
    """Variational dropout on the recurrent path: h is dropped before its product, by one mask for all steps.

    Args:
        state: a state of the batch, ``[*batch, H]``: only its shape is read.
    Returns:
        (cell, params) for ``unroll``.
    """
    check_rate("rate", rate)
    if is_zero_rate(rate):
        return cell, params
    h = get_h(state)
    return _dropping(cell), MaskedParams(params, scaled_mask(key, rate, h.shape, h.dtype))


@cache
def _dropping(cell: Cell) -> Cell:
    def recur(params: MaskedParams, z: PyTree, state: PyTree) -> PyTree:
        h = get_h(state)
        mask = jax.lax.broadcast_to_rank(jax.lax.stop_gradient(params.mask), h.ndim)
        return cell.recur(params.params, z, replace_h(state, h * mask))

    def zero_state(params: MaskedParams, batch_shape: tuple[int, ...] = ()) -> PyTree:
        return cell.zero_state(params.params, batch_shape)

    return cell._replace(
        project=lambda params, x: cell.project(params.params, x),
        recur=recur,
        update=lambda params, a, state: cell.update(params.params, a, state),
        zero_state=zero_state,
        prepare=lambda params: params._replace(params=cell.prepare(params.params)),
        check=lambda params, xs: cell.check(params.params, xs),
        gates=lambda params, a, state: cell.gates(params.params, a, state),
    )


def zoneout(
    key: jax.Array | None, cell: Cell, xs: PyTree, rates: PyTree, state: PyTree, *, start: int | jax.Array = 0
) -> tuple[Cell, PyTree]:
    """Keeps units of the state at their old value (Krueger et al. 2017, arXiv:1606.01305).

        s' = m * s + (1 - m) * s'        m = 1 with the part's rate, drawn anew at each step; its rate at evaluation

    The output is the visible part of the state that results. At evaluation, without a key, it is the expectation of one
    step, as in the paper; over many steps that is not the expectation over masks.

    Args:
        xs: ``[T, *batch, D]``.
        rates: one rate for each part of the state, such as ``LSTMState(h=0.05, c=0.5)``; a number for a GRU.
        state: a state of the batch: only its shape is read.
        key: None at evaluation.
        start: the absolute step of ``xs[0]``.
    Returns:
        (cell, inputs) for ``unroll``.
    """
    leaves, structure = jax.tree.flatten(state)
    if str(jax.tree.structure(rates)) != str(structure):
        raise ValueError(f"rates: got {rates!r}, want one rate for each part of {type(state).__name__}")
    for rate in jax.tree.leaves(rates):
        check_rate("rates", rate)
    if all(map(is_zero_rate, jax.tree.leaves(rates))):
        return cell, xs
    steps = input_sequence(xs).shape[0]
    keys = [None] * len(leaves) if key is None else jax.random.split(key, len(leaves))

    def mask(key: jax.Array | None, rate: Rate, like: jax.Array) -> jax.Array:
        if key is None:
            return jnp.full((steps, *like.shape), rate, like.dtype)
        return _by_step(key, start, steps, lambda key: jax.random.bernoulli(key, rate, like.shape).astype(like.dtype))

    masks = [mask(*one) for one in zip(keys, jax.tree.leaves(rates), leaves, strict=True)]
    return _zoning(cell), Inputs(xs, jax.tree.unflatten(structure, masks))


@cache
def _zoning(cell: Cell) -> Cell:
    """The cell that reads a mask for each part of its state."""

    def update(params: PyTree, a: PyTree, masks: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
        new, y = cell.update(params, a, state)
        mix = lambda mask, old, new: mask * old + (1 - mask) * new  # noqa: E731
        new = jax.tree.map(mix, jax.lax.stop_gradient(masks), state, new)
        return new, get_h(new).astype(y.dtype)

    return with_inputs(cell, update)


def memory_dropout(
    key: jax.Array, gate_spec: GateSpec, xs: jax.Array, rate: Rate, state: LSTMState, *, start: int | jax.Array = 0
) -> tuple[Cell, PyTree]:
    """Recurrent dropout without memory loss: candidates are dropped, never the memory (Semeniuta, Severyn and Barth
    2016, arXiv:1603.05118).

        c' = f * c + i * d * g        d = 0 with the rate, else 1 / (1 - rate), drawn anew at each step

    Args:
        gate_spec: of the LSTM, ``GateSpec()`` for the standard one; at evaluation run ``lstm_variant(gate_spec)``.
        state: a state of the batch: only its shape is read.
        start: the absolute step of ``xs[0]``.
    Returns:
        (cell, inputs) for ``unroll``.
    """
    check_rate("rate", rate)
    if is_zero_rate(rate):
        return lstm_variant(gate_spec), xs
    c = state.c
    masks = _by_step(key, start, xs.shape[0], lambda key: scaled_mask(key, rate, c.shape, c.dtype))
    return masked_lstm_variant(gate_spec), Inputs(xs, masks)


def get_h(state: PyTree) -> jax.Array:
    """What the next step and the next layer see: the state's ``h``, or the state itself."""
    h: jax.Array = state.h if hasattr(state, "h") else state
    return h


def replace_h(state: PyTree, h: jax.Array) -> PyTree:
    """The state with another visible part."""
    return state._replace(h=h) if hasattr(state, "h") else h


def activation_penalty(ys: jax.Array) -> jax.Array:
    """Activation regularisation: the mean of ``ys ** 2`` (Merity, McCann and Socher 2017, arXiv:1708.01009)."""
    return jnp.mean(ys * ys)


def temporal_activation_penalty(ys: jax.Array) -> jax.Array:
    """Temporal activation regularisation: the mean of ``(ys[t + 1] - ys[t]) ** 2`` (the same)."""
    changes = ys[1:] - ys[:-1]
    return jnp.mean(changes * changes)


def weight_penalty(params: PyTree, *, l1: Rate = 0.0, l2: Rate = 0.0, names: str = "") -> jax.Array:
    """``l1 * sum |w| + l2 * sum w ** 2`` over the parameters whose path holds the regular expression ``names``.

    Raises:
        ValueError: no path holds it.
    """
    chosen: list[jax.Array] = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if re.search(names, jax.tree_util.keystr(path, simple=True, separator=".")):
            chosen.append(leaf)
    if not chosen:
        raise ValueError(f"names: got {names!r}, which no parameter's path holds, for example 'recurrent_kernel'")
    parts = [l1 * jnp.sum(jnp.abs(leaf)) + l2 * jnp.sum(leaf * leaf) for leaf in chosen]
    return sum(parts[1:], parts[0])


def _by_step(key: jax.Array, start: int | jax.Array, steps: int, draw: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """``draw`` at each absolute step ``[steps, ...]``."""
    return jax.vmap(lambda t: draw(jax.random.fold_in(key, t)))(start + jnp.arange(steps))
