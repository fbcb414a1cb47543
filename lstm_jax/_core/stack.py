"""Layers on top of each other, and in both directions: compositions of ``unroll``."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from lstm_jax._core import engine
from lstm_jax._core.checks import check_layers, check_size, check_type
from lstm_jax._core.layers import Between, cell_of_params, run_cell, run_layers, run_lstm_layer
from lstm_jax._core.structs import ArrayLike, Bidirectional, Cell, PyTree, SequenceOptions
from lstm_jax.cells.lstm import LSTM


def lstm_stack(
    layers: Sequence[PyTree],
    xs: ArrayLike,
    initial_state: Sequence[PyTree] | None = None,
    *,
    between: Between | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: Sequence[PyTree] | None = None,
    reverse: bool = False,
    remat: str | int | None = None,
    implementation: str | None = None,
) -> tuple[tuple[PyTree, ...], jax.Array]:
    """Runs LSTM layers on top of each other; every option means what it means for ``lstm``.

    Args:
        layers: a tuple of parameters, lowest first: ``LSTMParams``, ``ProjectedLSTMParams``, or ``Bidirectional`` of
            two of them, whose outputs are joined on the last axis, forward first. Layers may differ in width.
        xs: inputs ``[T, *batch, D]``.
        initial_state: one state a layer, ``Bidirectional`` for such a layer; None means zeros throughout.
        between: ``between(layer, inputs, outputs)`` returns the inputs of the next layer: dropout, a norm, a
            residual sum. It is called after layer 0, 1, ... but not after the last. None hands on the outputs.
        lengths: integers ``[*batch]``, 0 to T; later steps are not taken. None means all T steps.
        mask: bool ``[T, *batch]``, the steps that are taken; give at most one of lengths and mask.
        resets: bool ``[T, *batch]``, boundaries that no state crosses; None means none.
        reset_state: one state a layer, as ``initial_state``; None means zero states.
        reverse: whether every layer is read in reverse; not together with ``Bidirectional``.
        remat: what is kept for the backward pass, "gates", "states" or a number of steps, as for ``lstm``.
        implementation: how the loop over time is run, by name, as for ``lstm``; projected layers have "scan" alone.
    Returns:
        (final_states, ys): a tuple with each layer's final state, and the last layer's outputs.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> layers = lj.init_stack(jax.random.key(0), 3, 8, num_layers=2, bidirectional=True)
        >>> final_states, ys = lj.lstm_stack(layers, jnp.ones((5, 2, 3)), lengths=jnp.array([5, 3]))
        >>> ys.shape
        (5, 2, 16)
    """
    options = SequenceOptions(
        lengths=lengths, mask=mask, resets=resets, reverse=reverse, remat=remat, implementation=implementation
    )
    return run_layers(run_lstm_layer, layers, xs, initial_state, reset_state, between, options)


def unroll_stack(
    cell: Cell,
    layers: Sequence[PyTree],
    xs: ArrayLike,
    initial_state: Sequence[PyTree] | None = None,
    *,
    between: Between | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: Sequence[PyTree] | None = None,
    reverse: bool = False,
    remat: str | int | None = None,
) -> tuple[tuple[PyTree, ...], jax.Array]:
    """Runs layers of any one cell on top of each other, as ``lstm_stack`` does for LSTMs.

    Args:
        cell: one of ``cells.CELLS`` or your own, whose output is an array.
        layers: a tuple of the cell's parameters, lowest first, or ``Bidirectional`` of two; see ``init_stack``.
        xs: inputs ``[T, *batch, D]``.
        initial_state: one state a layer, ``Bidirectional`` for such a layer; None means zero states throughout.
        between: ``between(layer, inputs, outputs)`` returns the inputs of the next layer; None hands on the outputs.
        lengths: integers ``[*batch]``, 0 to T; later steps are not taken. None means all T steps.
        mask: bool ``[T, *batch]``, the steps that are taken; give at most one of lengths and mask.
        resets: bool ``[T, *batch]``, boundaries that no state crosses; None means none.
        reset_state: one state a layer, as ``initial_state``; None means zero states.
        reverse: whether every layer is read in reverse; not together with ``Bidirectional``.
        remat: what is kept for the backward pass, "gates", "states" or a number of steps, as for ``lstm``.
    Returns:
        (final_states, ys): a tuple with each layer's final state, and the last layer's outputs.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> gru = lj.cells.GRU
        >>> layers = lj.init_stack(jax.random.key(0), 3, 8, num_layers=2, cell=gru)
        >>> final_states, ys = lj.unroll_stack(gru, layers, jnp.ones((5, 2, 3)))
        >>> ys.shape
        (5, 2, 8)
    """
    options = SequenceOptions(lengths=lengths, mask=mask, resets=resets, reverse=reverse, remat=remat)
    return run_layers(partial(run_cell, cell), layers, xs, initial_state, reset_state, between, options)


def init_stack(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    *,
    cell: Cell = LSTM,
    bidirectional: bool = False,
    dtype: DTypeLike = jnp.float32,
    **options: Any,
) -> tuple[PyTree, ...]:
    """Draws the parameters of layers of one width, each with a key of its own.

    Args:
        key: a JAX random key.
        input_size: ``D`` of the lowest layer; the others read the outputs below them.
        hidden_size: ``H`` of every layer.
        num_layers: how many, at least 1.
        cell: whose parameters, one of ``cells.CELLS`` or your own with an ``init``; the LSTM by default.
        bidirectional: whether each layer is ``Bidirectional``, two sets of parameters whose outputs are joined.
        dtype: of the parameters.
        options: of ``cell.init``, such as ``scheme="chrono", max_time=100`` for the LSTM.
    Returns:
        a tuple of parameters, lowest first, for ``lstm_stack`` or ``unroll_stack``.
    Raises:
        ValueError: a size below 1, or what ``cell.init`` refuses.
    Example:
        >>> import jax, lstm_jax as lj
        >>> layers = lj.init_stack(jax.random.key(0), 3, 8, num_layers=2, bidirectional=True)
        >>> layers[1].forward.input_kernel.shape
        (16, 32)
    """
    check_type("cell", cell, Cell, "for example cells.GRU, or CELLS[name]")
    check_type("bidirectional", bidirectional, bool)
    check_size("num_layers", num_layers)

    layers: list[PyTree] = []
    for layer_key in jax.random.split(key, num_layers):
        if bidirectional:
            directions = (
                cell.init(direction_key, input_size, hidden_size, dtype=dtype, **options)
                for direction_key in jax.random.split(layer_key)
            )
            layers.append(Bidirectional(*directions))
        else:
            layers.append(cell.init(layer_key, input_size, hidden_size, dtype=dtype, **options))
        if len(layers) < num_layers:
            input_size = _output_size(cell, layers[-1], input_size, dtype)
    return tuple(layers)


def _output_size(cell: Cell, params: PyTree, input_size: int, dtype: DTypeLike) -> int:
    """The size of a layer's outputs, on their last axis."""
    if isinstance(params, Bidirectional):
        return sum(_output_size(cell, direction, input_size, dtype) for direction in params)
    place = (1,) * cell.num_spatial_dims
    x = jax.ShapeDtypeStruct((*place, input_size), dtype)
    y = jax.eval_shape(lambda x: engine.step(cell, params, cell.zero_state(params, place), x)[1], x)
    return int(y.shape[-1])


def stack_zero_state(
    layers: Sequence[PyTree], batch_shape: tuple[int, ...] = (), cell: Cell | None = None
) -> tuple[PyTree, ...]:
    """Makes the zero state of each layer of a stack.

    Args:
        layers: a tuple of parameters, as for ``lstm_stack``.
        batch_shape: the batch axes, for example ``(32,)``.
        cell: of all layers; None means LSTMs, with or without projections.
    Returns:
        a tuple of states, ``Bidirectional`` where a layer is, for ``initial_state``.
    Raises:
        ValueError: ``layers`` is not a tuple or list of layers, or is empty.
    Example:
        >>> import jax, lstm_jax as lj
        >>> layers = lj.init_stack(jax.random.key(0), 3, 8, num_layers=2)
        >>> lj.stack_zero_state(layers, (4,))[1].h.shape
        (4, 8)
    """
    check_layers(layers)

    def zero(params: PyTree) -> PyTree:
        if isinstance(params, Bidirectional):
            return Bidirectional(*map(zero, params))
        return (cell or cell_of_params(params)).zero_state(params, batch_shape)

    return tuple(map(zero, layers))
