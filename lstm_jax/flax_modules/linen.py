"""Flax linen: ``RNN`` in the place of ``nn.RNN``, and ``LSTMStack``."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lstm_jax._core.layers import Between
from lstm_jax._core.stack import lstm_stack
from lstm_jax._core.structs import Bidirectional, LSTMParams, PyTree
from lstm_jax.cells import GRU, LSTM
from lstm_jax.flax_modules.shared import (
    MISSING_FLAX,
    FlaxCellSpec,
    RNNOptions,
    check_activations,
    find_cell_spec,
    override,
    run,
)
from lstm_jax.initializers import init_params
from lstm_jax.interop.arrays import unwrap_variables
from lstm_jax.interop.linen import import_gru, import_lstm
from lstm_jax.regularizers import check_rate

try:
    from flax import linen as nn
except ModuleNotFoundError as error:
    raise ImportError(MISSING_FLAX) from error

CELL_SPECS: dict[type, FlaxCellSpec] = {
    nn.LSTMCell: FlaxCellSpec(LSTM, import_lstm),
    nn.OptimizedLSTMCell: FlaxCellSpec(LSTM, import_lstm),
    nn.GRUCell: FlaxCellSpec(GRU, import_gru),
}
"""The Flax cells that ``RNN`` takes, and the cells of ours that compute the same."""


class RNN(nn.Module):
    """Flax's ``nn.RNN`` on the engine, with the same arguments, parameter tree and results.

    It differs from ``nn.RNN``, on purpose, as follows. Outputs after a sequence's length are 0; a length of 0 returns
    the initial carry; NaN in padding reaches no gradient; with ``dtype=bfloat16`` outputs are bfloat16 and the memory
    float32, where Flax returns float32. ``resets`` and ``remat`` are added, with the meaning they have for
    ``lstm_jax.lstm``; ``unroll`` and the options of ``nn.scan`` are left out. The carry is Flax's ``(c, h)``, and an
    ``LSTMState`` is taken as well.

    Args:
        cell: an ``nn.LSTMCell``, ``nn.OptimizedLSTMCell`` or ``nn.GRUCell``, with sigmoid and tanh.
        time_major: whether inputs are ``[T, *batch, D]`` and not ``[*batch, T, D]``.
        return_carry: whether ``(carry, outputs)`` is returned and not outputs alone.
        reverse: whether each sequence is read from its last valid step to its first.
        keep_order: whether outputs of a reversed run are in the order of the inputs and not in that of reading.
        remat: what is kept for the backward pass, as for ``lstm_jax.lstm``.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> from flax import linen as nn
        >>> layer = lj.flax_modules.linen.RNN(nn.OptimizedLSTMCell(16))  # for nn.RNN(nn.OptimizedLSTMCell(16))
        >>> variables = layer.init(jax.random.key(0), jnp.ones((4, 10, 3)))
        >>> layer.apply(variables, jnp.ones((4, 10, 3)), seq_lengths=jnp.array([10, 7, 1, 0])).shape
        (4, 10, 16)
    """

    cell: nn.RNNCellBase
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    remat: str | int | None = None

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        initial_carry: Any = None,
        init_key: jax.Array | None = None,
        seq_lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """Runs the cell over sequences, as ``nn.RNN`` does.

        Args:
            inputs: ``[*batch, T, D]``, or ``[T, *batch, D]`` if ``time_major``.
            initial_carry: ``(c, h)`` or an ``LSTMState`` for an LSTM, ``h`` for a GRU; None means the cell's own.
            init_key: the key for ``cell.initialize_carry``; None means ``jax.random.key(0)``.
            seq_lengths: integers ``[*batch]``, the valid steps of each sequence; None means T.
            resets: bool ``[*batch, T]``, or ``[T, *batch]`` if ``time_major``, as for ``lstm_jax.lstm``.
            return_carry: replaces the attribute of the module, unless it is None.
            time_major: replaces the attribute of the module, unless it is None.
            reverse: replaces the attribute of the module, unless it is None.
            keep_order: replaces the attribute of the module, unless it is None.
        Returns:
            outputs ``[*batch, T, H]``, or ``[T, *batch, H]`` if ``time_major``; or ``(carry, outputs)`` if
            ``return_carry``.
        Raises:
            ValueError: for a cell or activations that the engine does not compute, or arguments that do not fit.
        """
        options = override(
            RNNOptions(self.time_major, self.return_carry, self.reverse, self.keep_order),
            return_carry=return_carry,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
        )
        spec = find_cell_spec(CELL_SPECS, self.cell)
        check_activations(self.cell, nn.sigmoid, nn.tanh)
        inputs = jnp.asarray(inputs)
        first = inputs[0] if options.time_major else inputs[..., 0, :]
        key = jax.random.key(0) if init_key is None else init_key
        carry = self.cell.initialize_carry(key, first.shape) if initial_carry is None else initial_carry
        if self.is_initializing():
            self.cell(carry, first)
        params = nn.meta.unbox(self.cell.variables["params"])
        return run(spec, params, carry, inputs, seq_lengths, resets, options, self.cell.dtype, self.remat)


class LSTMStack(nn.Module):
    """``lstm_stack`` as a module that holds its parameters: layers, directions, dropout between layers.

    The parameters are ours: ``layer_0`` holds ``input_kernel``, ``recurrent_kernel`` and ``bias``; in a bidirectional
    stack ``layer_0_forward`` and ``layer_0_backward`` do.

    Args:
        hidden_size: width of each layer and direction, H.
        num_layers: layers on top of each other.
        bidirectional: whether each layer reads in both directions.
        dropout_rate: rate of dropout between layers, with a new mask at each step, drawn from the stream "dropout".
        scheme: the initialization, as for ``init_params``.
        max_time: for the scheme "chrono", as for ``init_params``.
        dtype: the dtype of the computation; None means that to which inputs and parameters promote.
        param_dtype: the dtype of the parameters.
        partitioning: mesh axes of each parameter, for example
            ``LSTMParams((None, "model"), (None, "model"), ("model",))``; None means none.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> stack = lj.flax_modules.linen.LSTMStack(16, num_layers=2, bidirectional=True)
        >>> variables = stack.init(jax.random.key(0), jnp.ones((10, 4, 3)))
        >>> final_states, ys = stack.apply(variables, jnp.ones((10, 4, 3)))
        >>> ys.shape
        (10, 4, 32)
    """

    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    dropout_rate: float = 0.0
    scheme: str = "orthogonal_per_gate"
    max_time: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32
    partitioning: LSTMParams | None = None

    @nn.compact
    def __call__(
        self,
        xs: ArrayLike,
        initial_state: tuple[PyTree, ...] | None = None,
        *,
        deterministic: bool = True,
        between: Between | None = None,
        **options: Any,
    ) -> tuple[tuple[PyTree, ...], jax.Array]:
        """Runs the layers over sequences, as ``lstm_stack`` does.

        Args:
            xs: ``[T, *batch, D]``, time first.
            initial_state: one state a layer; None means zeros throughout.
            deterministic: whether dropout is left out.
            between: ``between(layer, inputs, outputs)`` returns the next layer's inputs, after dropout of the outputs.
            options: ``lengths``, ``mask``, ``resets``, ``reset_state``, ``reverse``, ``remat`` and ``implementation``
                of ``lstm_stack``.
        Returns:
            (final_states, ys): one state a layer, and outputs ``[T, *batch, H]``, or ``2H`` if bidirectional.
        Raises:
            ValueError: naming the argument, what it got and what it wants.
        """
        check_rate("dropout_rate", self.dropout_rate)
        sequence = jnp.asarray(xs)
        initial_state, options = unwrap_variables((initial_state, options))
        directions = ("_forward", "_backward") if self.bidirectional else ("",)
        layers, input_size = [], sequence.shape[-1]
        for layer in range(self.num_layers):
            params = [self._layer(f"layer_{layer}{direction}")(input_size) for direction in directions]
            layers.append(Bidirectional(*params) if self.bidirectional else params[0])
            input_size = len(directions) * self.hidden_size
        dtype = self.dtype or jnp.result_type(sequence, *jax.tree.leaves(layers))
        sequence, layers = jax.tree.map(lambda leaf: leaf.astype(dtype), (sequence, layers))

        def drop(layer: int, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
            outputs = nn.Dropout(self.dropout_rate, name=f"dropout_{layer}")(outputs, deterministic=deterministic)
            return outputs if between is None else between(layer, inputs, outputs)

        return lstm_stack(layers, sequence, initial_state, between=drop, **options)

    def _layer(self, name: str) -> "_Layer":
        init = partial(init_params, scheme=self.scheme, max_time=self.max_time, dtype=self.param_dtype)
        return _Layer(self.hidden_size, init, self.partitioning, name=name)


class _Layer(nn.Module):
    """A module that makes and holds the parameters of one direction of a layer."""

    hidden_size: int
    init_layer: Callable[..., LSTMParams]
    partitioning: LSTMParams | None

    @nn.compact
    def __call__(self, input_size: int) -> LSTMParams:
        def make_param(field: str) -> Any:
            def init(key: jax.Array) -> jax.Array:
                return getattr(self.init_layer(key, input_size, self.hidden_size), field)

            axes = None if self.partitioning is None else getattr(self.partitioning, field)
            return self.param(field, init if axes is None else nn.with_partitioning(init, axes))

        return LSTMParams(*map(make_param, LSTMParams._fields))
