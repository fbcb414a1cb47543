"""Flax linen modules: ``RNN``, a drop-in replacement for ``nn.RNN``, and ``LSTMStack``."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lstm_jax._core.extras import missing_extra
from lstm_jax._core.layers import Between
from lstm_jax._core.stack import lstm_stack
from lstm_jax._core.structs import Bidirectional, LSTMParams, PyTree
from lstm_jax.cells import GRU, LSTM
from lstm_jax.flax_modules.shared import (
    FlaxCellSpec,
    RNNOptions,
    check_activations,
    find_cell_spec,
    override_options,
    run_flax_rnn,
)
from lstm_jax.initializers import init_params
from lstm_jax.interop.arrays import unwrap_variables
from lstm_jax.interop.linen import import_gru, import_lstm
from lstm_jax.regularizers import check_rate

try:
    from flax import linen as nn
except ModuleNotFoundError as error:
    raise missing_extra("flax", "flax") from error

CELL_SPECS: dict[type, FlaxCellSpec] = {
    nn.LSTMCell: FlaxCellSpec(LSTM, import_lstm),
    nn.OptimizedLSTMCell: FlaxCellSpec(LSTM, import_lstm),
    nn.GRUCell: FlaxCellSpec(GRU, import_gru),
}
"""Maps each supported Flax cell type to the equivalent cell of this package."""


class RNN(nn.Module):
    """A drop-in replacement for ``nn.RNN`` that runs on this package's recurrence.

    Differences from ``nn.RNN``, all deliberate:

    - Outputs after a sequence's length are 0.
    - A sequence of length 0 returns the initial carry.
    - NaN in padding does not reach any gradient.
    - With a cell of ``dtype=bfloat16``, outputs are bfloat16 and the memory float32; Flax returns float32 outputs.
    - ``resets`` and ``remat`` are added, with the same meaning as in ``lstm_jax.lstm``.
    - ``unroll`` and the options of ``nn.scan`` are not available.
    - ``initial_carry`` may also be an ``LSTMState``. The returned carry is Flax's ``(c, h)``.

    Args:
        cell: an ``nn.LSTMCell``, ``nn.OptimizedLSTMCell`` or ``nn.GRUCell`` with sigmoid gates and tanh activation.
        time_major: whether inputs are ``[T, *batch, D]`` instead of ``[*batch, T, D]``.
        return_carry: whether to return ``(carry, outputs)`` instead of the outputs alone.
        reverse: whether to process each sequence from its last valid step to its first.
        keep_order: whether outputs of a reversed run are in input order instead of processing order.
        remat: which values are saved for the backward pass, as for ``lstm_jax.lstm``.

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
        """Runs the cell over a batch of sequences, like ``nn.RNN``.

        Args:
            inputs: ``[*batch, T, D]``, or ``[T, *batch, D]`` if ``time_major``.
            initial_carry: ``(c, h)`` or an ``LSTMState`` for an LSTM, ``h`` for a GRU; None means
                ``cell.initialize_carry``.
            init_key: random key for ``cell.initialize_carry``; None means ``jax.random.key(0)``.
            seq_lengths: integers ``[*batch]``, the valid steps of each sequence; None means all T steps.
            resets: bool ``[*batch, T]``, or ``[T, *batch]`` if ``time_major``; True at step t is a boundary
                between steps t-1 and t that no state crosses. None means no resets.
            return_carry: overrides the module attribute; None keeps it.
            time_major: overrides the module attribute; None keeps it.
            reverse: overrides the module attribute; None keeps it.
            keep_order: overrides the module attribute; None keeps it.
        Returns:
            the outputs, ``[*batch, T, H]`` or ``[T, *batch, H]`` if ``time_major``; with ``return_carry`` the pair
            ``(carry, outputs)``.
        Raises:
            ValueError: if the cell type or one of its activations is not supported, or if inputs, ``initial_carry``,
                ``seq_lengths`` or ``resets`` have the wrong shape, dtype or type.
        """
        rnn_options = override_options(
            RNNOptions(self.time_major, self.return_carry, self.reverse, self.keep_order),
            return_carry=return_carry,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
        )
        spec = find_cell_spec(CELL_SPECS, self.cell)
        check_activations(self.cell, nn.sigmoid, nn.tanh)
        inputs = jnp.asarray(inputs)
        first_step = inputs[0] if rnn_options.time_major else inputs[..., 0, :]
        key = jax.random.key(0) if init_key is None else init_key
        carry = self.cell.initialize_carry(key, first_step.shape) if initial_carry is None else initial_carry
        if self.is_initializing():
            self.cell(carry, first_step)  # creates the parameters
        params = nn.meta.unbox(self.cell.variables["params"])
        return run_flax_rnn(
            spec,
            params,
            carry,
            inputs,
            lengths=seq_lengths,
            resets=resets,
            rnn_options=rnn_options,
            dtype=self.cell.dtype,
            remat=self.remat,
        )


class LSTMStack(nn.Module):
    """A stack of LSTM layers with dropout between them: ``lstm_stack`` as a Flax module that owns its parameters.

    The parameters have the names and shapes of ``LSTMParams``: ``layer_0`` holds ``input_kernel``,
    ``recurrent_kernel`` and ``bias``. A bidirectional stack has ``layer_0_forward`` and ``layer_0_backward`` instead.

    Args:
        hidden_size: features of the state of each layer and direction, H.
        num_layers: number of stacked layers.
        bidirectional: whether each layer processes the sequence in both directions.
        dropout_rate: dropout rate between layers; each step has an independent mask. Needs the PRNG stream "dropout".
        scheme: name of the initialization scheme, as for ``init_params``.
        max_time: longest expected dependency in steps, for the scheme "chrono"; as for ``init_params``.
        dtype: computation dtype; None means the promoted dtype of inputs and parameters.
        param_dtype: dtype of the parameters.
        partitioning: mesh axis names of each parameter, for example
            ``LSTMParams((None, "model"), (None, "model"), ("model",))``; None means no partitioning metadata.

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
        **stack_options: Any,
    ) -> tuple[tuple[PyTree, ...], jax.Array]:
        """Runs all layers over a batch of sequences, like ``lstm_stack``.

        Args:
            xs: ``[T, *batch, D]``, time first.
            initial_state: the initial state of each layer, lowest first; None means zeros.
            deterministic: whether to disable dropout.
            between: ``between(layer_index, inputs, outputs)`` returns the inputs of the next layer, given the
                outputs after dropout. None means these outputs.
            stack_options: the keyword arguments ``lengths``, ``mask``, ``resets``, ``reset_state``, ``reverse``,
                ``remat`` and ``implementation`` of ``lstm_stack``.
        Returns:
            (final_states, ys): the final state of each layer, lowest first, and the last layer's outputs,
            ``[T, *batch, H]`` or ``[T, *batch, 2H]`` if bidirectional.
        Raises:
            ValueError: if an argument of ``lstm_stack`` has the wrong shape, dtype or value.
        """
        check_rate("dropout_rate", self.dropout_rate)
        xs = jnp.asarray(xs)
        initial_state, stack_options = unwrap_variables((initial_state, stack_options))
        suffixes = ("_forward", "_backward") if self.bidirectional else ("",)
        layers = []
        input_size = xs.shape[-1]
        for layer_index in range(self.num_layers):
            params = [self._make_direction(f"layer_{layer_index}{suffix}")(input_size) for suffix in suffixes]
            layers.append(Bidirectional(*params) if self.bidirectional else params[0])
            input_size = len(suffixes) * self.hidden_size
        dtype = self.dtype or jnp.result_type(xs, *jax.tree.leaves(layers))
        xs, layers = jax.tree.map(lambda leaf: leaf.astype(dtype), (xs, layers))

        def apply_dropout(layer_index: int, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
            outputs = nn.Dropout(self.dropout_rate, name=f"dropout_{layer_index}")(outputs, deterministic=deterministic)
            return outputs if between is None else between(layer_index, inputs, outputs)

        return lstm_stack(layers, xs, initial_state, between=apply_dropout, **stack_options)

    def _make_direction(self, name: str) -> "_DirectionParams":
        """Creates the submodule that owns the parameters of one direction of one layer."""
        init = partial(init_params, scheme=self.scheme, max_time=self.max_time, dtype=self.param_dtype)
        return _DirectionParams(self.hidden_size, init, self.partitioning, name=name)


class _DirectionParams(nn.Module):
    """Initializes and holds the parameters of one direction of one layer."""

    hidden_size: int
    init_direction: Callable[..., LSTMParams]
    partitioning: LSTMParams | None

    @nn.compact
    def __call__(self, input_size: int) -> LSTMParams:
        def make_param(field: str) -> Any:
            def init_field(key: jax.Array) -> jax.Array:
                return getattr(self.init_direction(key, input_size, self.hidden_size), field)

            axis_names = None if self.partitioning is None else getattr(self.partitioning, field)
            return self.param(field, init_field if axis_names is None else nn.with_partitioning(init_field, axis_names))

        return LSTMParams(*map(make_param, LSTMParams._fields))
