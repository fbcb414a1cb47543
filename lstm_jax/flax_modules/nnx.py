"""Flax nnx modules: ``RNN``, a drop-in replacement for ``nnx.RNN``, and ``LSTMStack``."""

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
from lstm_jax.interop.nnx import import_gru, import_lstm
from lstm_jax.regularizers import check_rate

try:
    from flax import nnx
except ModuleNotFoundError as error:
    raise missing_extra("flax", "flax") from error

CELL_SPECS: dict[type, FlaxCellSpec] = {
    nnx.LSTMCell: FlaxCellSpec(LSTM, import_lstm),
    nnx.OptimizedLSTMCell: FlaxCellSpec(LSTM, import_lstm),
    nnx.GRUCell: FlaxCellSpec(GRU, import_gru),
}
"""Maps each supported Flax cell type to the equivalent cell of this package."""


class RNN(nnx.Module):
    """A drop-in replacement for ``nnx.RNN`` that runs on this package's recurrence.

    Differences from ``nnx.RNN``, all deliberate:

    - Outputs after a sequence's length are 0.
    - A sequence of length 0 returns the initial carry.
    - NaN in padding does not reach any gradient.
    - With a cell of ``dtype=bfloat16``, outputs are bfloat16 and the memory float32; Flax returns float32 outputs.
    - ``resets`` and ``remat`` are added, with the same meaning as in ``lstm_jax.lstm``.
    - The module stores no random state, so it also works under plain ``jax.jit``, ``jax.grad`` and ``jax.vmap``. The
      constructor therefore has no ``rngs``, ``broadcast_rngs`` or ``state_axes``, and only the parameters of an
      ``nnx.RNN`` checkpoint are loaded: ``nnx.state(model, nnx.Param)``.

    Args:
        cell: an ``nnx.LSTMCell``, ``nnx.OptimizedLSTMCell`` or ``nnx.GRUCell`` with sigmoid gates and tanh activation.
        time_major: whether inputs are ``[T, *batch, D]`` instead of ``[*batch, T, D]``.
        return_carry: whether to return ``(carry, outputs)`` instead of the outputs alone.
        reverse: whether to process each sequence from its last valid step to its first.
        keep_order: whether outputs of a reversed run are in input order instead of processing order.
        remat: which values are saved for the backward pass, as for ``lstm_jax.lstm``.
    Raises:
        ValueError: if the cell type or one of its activations is not supported.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> from flax import nnx
        >>> cell = nnx.OptimizedLSTMCell(3, 16, rngs=nnx.Rngs(0))
        >>> layer = lj.flax_modules.nnx.RNN(cell)  # for nnx.RNN(cell)
        >>> layer(jnp.ones((4, 10, 3)), seq_lengths=jnp.array([10, 7, 1, 0])).shape
        (4, 10, 16)
    """

    def __init__(
        self,
        cell: Any,
        *,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        keep_order: bool = False,
        remat: str | int | None = None,
    ):
        find_cell_spec(CELL_SPECS, cell)
        check_activations(cell, nnx.sigmoid, nnx.tanh)
        self.cell = cell
        self.rnn_options = RNNOptions(time_major, return_carry, reverse, keep_order)
        self.remat = remat

    def __call__(
        self,
        inputs: ArrayLike,
        *,
        initial_carry: Any = None,
        seq_lengths: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Any:
        """Runs the cell over a batch of sequences, like ``nnx.RNN``.

        Args:
            inputs: ``[*batch, T, D]``, or ``[T, *batch, D]`` if ``time_major``.
            initial_carry: ``(c, h)`` or an ``LSTMState`` for an LSTM, ``h`` for a GRU; None means
                ``cell.initialize_carry``.
            seq_lengths: integers ``[*batch]``, the valid steps of each sequence; None means all T steps.
            resets: bool ``[*batch, T]``, or ``[T, *batch]`` if ``time_major``; True at step t is a boundary
                between steps t-1 and t that no state crosses. None means no resets.
            return_carry: overrides the value given to the constructor; None keeps it.
            time_major: overrides the value given to the constructor; None keeps it.
            reverse: overrides the value given to the constructor; None keeps it.
            keep_order: overrides the value given to the constructor; None keeps it.
            rngs: random key streams for ``cell.initialize_carry``; None means ``nnx.Rngs(0)``.
        Returns:
            the outputs, ``[*batch, T, H]`` or ``[T, *batch, H]`` if ``time_major``; with ``return_carry`` the pair
            ``(carry, outputs)``.
        Raises:
            ValueError: if inputs, ``initial_carry``, ``seq_lengths`` or ``resets`` have the wrong shape, dtype or type.
        """
        rnn_options = override_options(
            self.rnn_options, return_carry=return_carry, time_major=time_major, reverse=reverse, keep_order=keep_order
        )
        inputs = jnp.asarray(inputs)
        if initial_carry is None:
            step_shape = inputs.shape[1:] if rnn_options.time_major else (*inputs.shape[:-2], inputs.shape[-1])
            initial_carry = self.cell.initialize_carry(step_shape, nnx.Rngs(0) if rngs is None else rngs)
        params = nnx.to_pure_dict(nnx.state(self.cell, nnx.Param))
        spec = find_cell_spec(CELL_SPECS, self.cell)
        return run_flax_rnn(
            spec,
            params,
            initial_carry,
            inputs,
            lengths=seq_lengths,
            resets=resets,
            rnn_options=rnn_options,
            dtype=self.cell.dtype,
            remat=self.remat,
        )


class LSTMStack(nnx.Module):
    """A stack of LSTM layers with dropout between them: ``lstm_stack`` as a Flax module that owns its parameters.

    The parameters have the names and shapes of ``LSTMParams``: ``layer_0`` holds ``input_kernel``,
    ``recurrent_kernel`` and ``bias``. A bidirectional stack has ``layer_0_forward`` and ``layer_0_backward`` instead.
    Dropout is active until ``model.eval()`` is called, as for ``nnx.Dropout``.

    Args:
        input_size: features of the inputs, D.
        hidden_size: features of the state of each layer and direction, H.
        num_layers: number of stacked layers.
        bidirectional: whether each layer processes the sequence in both directions.
        dropout_rate: dropout rate between layers; each step has an independent mask.
        scheme: name of the initialization scheme, as for ``init_params``.
        max_time: longest expected dependency in steps, for the scheme "chrono"; as for ``init_params``.
        dtype: computation dtype; None means the promoted dtype of inputs and parameters.
        param_dtype: dtype of the parameters.
        partitioning: mesh axis names of each parameter, for example
            ``LSTMParams((None, "model"), (None, "model"), ("model",))``; None means no partitioning metadata.
        rngs: random key streams: "params" initializes the parameters, "dropout" samples the masks.
    Raises:
        ValueError: if ``dropout_rate`` is outside [0, 1), a size is below 1, or ``scheme`` is unknown.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> from flax import nnx
        >>> stack = lj.flax_modules.nnx.LSTMStack(3, 16, num_layers=2, bidirectional=True, rngs=nnx.Rngs(0))
        >>> final_states, ys = stack(jnp.ones((10, 4, 3)))
        >>> ys.shape
        (10, 4, 32)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout_rate: float = 0.0,
        scheme: str = "orthogonal_per_gate",
        max_time: int | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        partitioning: LSTMParams | None = None,
        rngs: nnx.Rngs,
    ):
        check_rate("dropout_rate", dropout_rate)
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dtype = dtype
        self.dropout = nnx.Dropout(dropout_rate, rngs=rngs) if dropout_rate else None
        suffixes = ("_forward", "_backward") if bidirectional else ("",)
        for layer_index in range(num_layers):
            layer_input_size = len(suffixes) * hidden_size if layer_index else input_size
            for suffix in suffixes:
                params = init_params(
                    rngs.params(), layer_input_size, hidden_size, scheme=scheme, max_time=max_time, dtype=param_dtype
                )
                setattr(self, f"layer_{layer_index}{suffix}", _DirectionParams(params, partitioning))

    def __call__(
        self,
        xs: ArrayLike,
        initial_state: tuple[PyTree, ...] | None = None,
        *,
        between: Between | None = None,
        **stack_options: Any,
    ) -> tuple[tuple[PyTree, ...], jax.Array]:
        """Runs all layers over a batch of sequences, like ``lstm_stack``.

        Args:
            xs: ``[T, *batch, D]``, time first.
            initial_state: the initial state of each layer, lowest first; None means zeros.
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
        xs = jnp.asarray(xs)
        initial_state, stack_options = unwrap_variables((initial_state, stack_options))
        layers = [self._get_layer_params(layer_index) for layer_index in range(self.num_layers)]
        dtype = self.dtype or jnp.result_type(xs, *jax.tree.leaves(layers))
        xs, layers = jax.tree.map(lambda leaf: leaf.astype(dtype), (xs, layers))
        dropout = self.dropout

        def apply_dropout(layer_index: int, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
            outputs = outputs if dropout is None else dropout(outputs)
            return outputs if between is None else between(layer_index, inputs, outputs)

        return lstm_stack(layers, xs, initial_state, between=apply_dropout, **stack_options)

    def _get_layer_params(self, layer_index: int) -> PyTree:
        """Returns ``LSTMParams``, or ``Bidirectional`` of two, of the given layer."""
        if not self.bidirectional:
            return getattr(self, f"layer_{layer_index}").get_params()
        return Bidirectional(
            *(getattr(self, f"layer_{layer_index}_{field}").get_params() for field in Bidirectional._fields)
        )


class _DirectionParams(nnx.Module):
    """Holds the parameters of one direction of one layer."""

    def __init__(self, params: LSTMParams, partitioning: LSTMParams | None):
        for field, leaf in params._asdict().items():
            metadata = {} if partitioning is None else {"out_sharding": getattr(partitioning, field)}
            setattr(self, field, nnx.Param(leaf, **metadata))

    def get_params(self) -> LSTMParams:
        """Returns the parameter arrays as ``LSTMParams``."""
        return LSTMParams(*(getattr(self, field)[...] for field in LSTMParams._fields))
