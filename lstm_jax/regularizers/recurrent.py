"""Dropout and zoneout of the recurrent state: each function wraps a cell and samples the masks for it.

``key=None`` means evaluation.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import Cell, Inputs, LSTMState, PyTree, input_sequence
from lstm_jax.cells.gates import GateSpec
from lstm_jax.cells.inputs import with_inputs
from lstm_jax.cells.variants import lstm_variant, masked_lstm_variant
from lstm_jax.regularizers.masks import Rate, check_rate, draw_per_step, is_zero_rate, scaled_mask


class MaskedParams(NamedTuple):
    """Parameters of a cell with recurrent dropout: those of the wrapped cell, and the mask applied to h."""

    params: PyTree
    """parameters of the wrapped cell"""
    mask: jax.Array
    """``[*batch, H]``, multiplied with h before the recurrent product, the same at all steps"""


def recurrent_dropout(
    key: jax.Array | None, cell: Cell, params: PyTree, rate: Rate, state: PyTree
) -> tuple[Cell, PyTree]:
    """Drops units of h in the recurrent product, the same at all steps: variational recurrent dropout.

        a = z + (m * h) R        m = 0 with probability ``rate``, else 1 / (1 - rate)

    Source: Gal and Ghahramani 2016, arXiv:1512.05287.

    Args:
        key: a JAX random key; None disables dropout.
        cell: any cell with a recurrent product.
        params: parameters of the cell.
        rate: probability of dropping each unit.
        state: a state with h ``[*batch, H]``, which gives shape and dtype of the mask; its values are not used.
    Returns:
        (cell, params): the wrapped cell and its parameters for ``unroll``, or the given ones if ``key`` is None or
        ``rate`` is 0.
    Raises:
        ValueError: if ``rate`` is below 0, or 1 or above.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> key, lstm = jax.random.key(0), lj.cells.LSTM
        >>> params = lstm.init(key, 3, 8)
        >>> cell, params = lj.regularizers.recurrent_dropout(key, lstm, params, 0.2, lstm.zero_state(params, (2,)))
        >>> lj.unroll(cell, params, jnp.ones((5, 2, 3)))[1].shape
        (5, 2, 8)
    """
    check_rate("rate", rate)
    if key is None or is_zero_rate(rate):
        return cell, params
    h = get_h(state)
    return _with_recurrent_dropout(cell), MaskedParams(params, scaled_mask(key, rate, h.shape, h.dtype))


@cache
def _with_recurrent_dropout(cell: Cell) -> Cell:
    """Wraps a cell so that it takes ``MaskedParams`` and multiplies h by the mask in ``recur``."""

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
    """Randomly keeps units of the state at their previous value: zoneout (Krueger et al. 2017, arXiv:1606.01305).

        s_t = m_t * s_(t-1) + (1 - m_t) * s'_t        s'_t the cell's new state
        m_t = 1 with probability ``rate``, else 0; at evaluation m_t = rate

    The output is the h of s_t. At evaluation (``key=None``) each step replaces its mask by the expectation, as in the
    paper; over several steps this is not the expectation over all masks.

    Args:
        key: a JAX random key; None means evaluation.
        cell: any cell whose output is the h of its state.
        xs: ``[T, *batch, D]``, or the ``Inputs`` of a cell with per-step inputs.
        rates: probability of keeping the previous value for each part of the state, such as
            ``LSTMState(h=0.05, c=0.5)``; a single rate for a cell whose state is one array, such as a GRU.
        state: a state of the batch, which gives the shapes and dtypes of the masks; its values are not used.
        start: the absolute step of ``xs[0]``, for a sequence processed in segments.
    Returns:
        (cell, inputs): the wrapped cell and its inputs for ``unroll``, or the given ones if all rates are the Python
        number 0.
    Raises:
        ValueError: if ``rates`` and ``state`` differ in structure, or a rate is below 0, or 1 or above.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> key, lstm, xs = jax.random.key(0), lj.cells.LSTM, jnp.ones((5, 2, 3))
        >>> params = lstm.init(key, 3, 8)
        >>> rates, state = lj.LSTMState(h=0.05, c=0.5), lstm.zero_state(params, (2,))
        >>> cell, inputs = lj.regularizers.zoneout(key, lstm, xs, rates, state)
        >>> lj.unroll(cell, params, inputs)[1].shape
        (5, 2, 8)
    """
    parts, structure = jax.tree.flatten(state)
    if str(jax.tree.structure(rates)) != str(structure):
        raise ValueError(f"rates: got {rates!r}, want one rate for each part of {type(state).__name__}")
    rate_leaves = jax.tree.leaves(rates)
    for rate in rate_leaves:
        check_rate("rates", rate)
    if all(map(is_zero_rate, rate_leaves)):
        return cell, xs
    num_steps = input_sequence(xs).shape[0]
    mask_keys = [None] * len(parts) if key is None else jax.random.split(key, len(parts))

    def sample_masks(key: jax.Array | None, rate: Rate, part: jax.Array) -> jax.Array:
        if key is None:
            return jnp.full((num_steps, *part.shape), rate, part.dtype)
        return draw_per_step(
            key, start, num_steps, lambda key: jax.random.bernoulli(key, rate, part.shape).astype(part.dtype)
        )

    masks = [sample_masks(key, rate, part) for key, rate, part in zip(mask_keys, rate_leaves, parts, strict=True)]
    return _with_zoneout(cell), Inputs(xs, jax.tree.unflatten(structure, masks))


@cache
def _with_zoneout(cell: Cell) -> Cell:
    """Wraps a cell so that it reads ``Inputs(xs, masks)`` and keeps the masked units of its state."""

    def update(params: PyTree, a: PyTree, masks: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
        new_state, y = cell.update(params, a, state)
        keep = lambda mask, old, new: mask * old + (1 - mask) * new  # noqa: E731
        mixed_state = jax.tree.map(keep, jax.lax.stop_gradient(masks), state, new_state)
        return mixed_state, get_h(mixed_state).astype(y.dtype)

    return with_inputs(cell, update)


def candidate_dropout(
    key: jax.Array | None,
    gate_spec: GateSpec,
    xs: jax.Array,
    rate: Rate,
    state: LSTMState,
    *,
    start: int | jax.Array = 0,
) -> tuple[Cell, PyTree]:
    """Drops elements of the candidate g of an LSTM at each step: recurrent dropout without memory loss.

        c_t = f * c_(t-1) + i * m_t * g        m_t = 0 with probability ``rate``, else 1 / (1 - rate)

    Source: Semeniuta, Severyn and Barth 2016, arXiv:1603.05118.

    Args:
        key: a JAX random key; None disables dropout.
        gate_spec: the gates of the LSTM; ``GateSpec()`` is the standard LSTM.
        xs: ``[T, *batch, D]``.
        rate: probability of dropping each element of g.
        state: a state whose c gives the shape and dtype of the masks; its values are not used.
        start: the absolute step of ``xs[0]``, for a sequence processed in segments.
    Returns:
        (cell, inputs): the cell and its inputs for ``unroll``, or ``lstm_variant(gate_spec)`` and ``xs`` if ``key`` is
        None or ``rate`` is 0.
    Raises:
        ValueError: if ``rate`` is below 0, or 1 or above.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> key, xs, spec = jax.random.key(0), jnp.ones((5, 2, 3)), lj.cells.GateSpec()
        >>> params = lj.init_params(key, 3, 8)
        >>> cell, inputs = lj.regularizers.candidate_dropout(key, spec, xs, 0.2, lj.zero_state(params, (2,)))
        >>> lj.unroll(cell, params, inputs)[1].shape
        (5, 2, 8)
    """
    check_rate("rate", rate)
    if key is None or is_zero_rate(rate):
        return lstm_variant(gate_spec), xs
    c = state.c
    masks = draw_per_step(key, start, xs.shape[0], lambda key: scaled_mask(key, rate, c.shape, c.dtype))
    return masked_lstm_variant(gate_spec), Inputs(xs, masks)


def get_h(state: PyTree) -> jax.Array:
    """Returns the hidden state h, the input of the recurrent product and of the next layer.

    It is the field ``h`` of the state, or the state itself if that is one array, as in a GRU.
    """
    h: jax.Array = state.h if hasattr(state, "h") else state
    return h


def replace_h(state: PyTree, h: jax.Array) -> PyTree:
    """Replaces the hidden state h in a state, the part that ``get_h`` returns.

    Args:
        state: a state with a field ``h``, or a single array.
        h: the new hidden state.
    Returns:
        The state with the new h.

    Example:
        >>> import lstm_jax as lj
        >>> lj.regularizers.replace_h(lj.LSTMState(h=1.0, c=2.0), 3.0)
        LSTMState(h=3.0, c=2.0)
    """
    return state._replace(h=h) if hasattr(state, "h") else h
