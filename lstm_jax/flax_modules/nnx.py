"""Flax nnx: ``RNN`` in the place of ``nnx.RNN``, and ``LSTMStack``."""

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
from lstm_jax.interop.nnx import import_gru, import_lstm
from lstm_jax.regularizers import check_rate

try:
    from flax import nnx
except ModuleNotFoundError as error:
    raise ImportError(MISSING_FLAX) from error

CELL_SPECS: dict[type, FlaxCellSpec] = {
    nnx.LSTMCell: FlaxCellSpec(LSTM, import_lstm),
    nnx.OptimizedLSTMCell: FlaxCellSpec(LSTM, import_lstm),
    nnx.GRUCell: FlaxCellSpec(GRU, import_gru),
}
"""The Flax cells that ``RNN`` takes, and the cells of ours that compute the same."""


class RNN(nnx.Module):
    """Flax's ``nnx.RNN`` on the engine, with the same arguments, parameters and results.

    It differs from ``nnx.RNN``, on purpose, as follows. Outputs after a sequence's length are 0; a length of 0 returns
    the initial carry; NaN in padding reaches no gradient; with ``dtype=bfloat16`` outputs are bfloat16 and the memory
    float32, where Flax returns float32. ``resets`` and ``remat`` are added, with the meaning they have for
    ``lstm_jax.lstm``. No random state is kept, so the module also works under plain ``jax.jit``, ``jax.grad`` and
    ``jax.vmap``; ``rngs``, ``broadcast_rngs`` and ``state_axes`` of the constructor are therefore left out, and of a
    checkpoint of ``nnx.RNN`` the parameters are loaded, ``nnx.state(model, nnx.Param)``.

    Args:
        cell: an ``nnx.LSTMCell``, ``nnx.OptimizedLSTMCell`` or ``nnx.GRUCell``, with sigmoid and tanh.
        time_major: whether inputs are ``[T, *batch, D]`` and not ``[*batch, T, D]``.
        return_carry: whether ``(carry, outputs)`` is returned and not outputs alone.
        reverse: whether each sequence is read from its last valid step to its first.
        keep_order: whether outputs of a reversed run are in the order of the inputs and not in that of reading.
        remat: what is kept for the backward pass, as for ``lstm_jax.lstm``.
    Raises:
        ValueError: for a cell or activations that the engine does not compute.

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
        self.options = RNNOptions(time_major, return_carry, reverse, keep_order)
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
        """Runs the cell over sequences, as ``nnx.RNN`` does.

        Args:
            inputs: ``[*batch, T, D]``, or ``[T, *batch, D]`` if ``time_major``.
            initial_carry: ``(c, h)`` or an ``LSTMState`` for an LSTM, ``h`` for a GRU; None means the cell's own.
            seq_lengths: integers ``[*batch]``, the valid steps of each sequence; None means T.
            resets: bool ``[*batch, T]``, or ``[T, *batch]`` if ``time_major``, as for ``lstm_jax.lstm``.
            return_carry: replaces the option of the constructor, unless it is None.
            time_major: replaces the option of the constructor, unless it is None.
            reverse: replaces the option of the constructor, unless it is None.
            keep_order: replaces the option of the constructor, unless it is None.
            rngs: for ``cell.initialize_carry``; None means ``nnx.Rngs(0)``.
        Returns:
            outputs ``[*batch, T, H]``, or ``[T, *batch, H]`` if ``time_major``; or ``(carry, outputs)`` if
            ``return_carry``.
        Raises:
            ValueError: for arguments that do not fit.
        """
        options = override(
            self.options, return_carry=return_carry, time_major=time_major, reverse=reverse, keep_order=keep_order
        )
        inputs = jnp.asarray(inputs)
        if initial_carry is None:
            step_shape = inputs.shape[1:] if options.time_major else (*inputs.shape[:-2], inputs.shape[-1])
            initial_carry = self.cell.initialize_carry(step_shape, nnx.Rngs(0) if rngs is None else rngs)
        params = nnx.to_pure_dict(nnx.state(self.cell, nnx.Param))
        spec = find_cell_spec(CELL_SPECS, self.cell)
        return run(spec, params, initial_carry, inputs, seq_lengths, resets, options, self.cell.dtype, self.remat)


class LSTMStack(nnx.Module):
    """``lstm_stack`` as a module that holds its parameters: layers, directions, dropout between layers.

    The parameters are ours: ``layer_0`` holds ``input_kernel``, ``recurrent_kernel`` and ``bias``; in a bidirectional
    stack ``layer_0_forward`` and ``layer_0_backward`` do. Dropout acts until ``model.eval()``, as ``nnx.Dropout`` does.

    Args:
        input_size: features of an input, D.
        hidden_size: width of each layer and direction, H.
        num_layers: layers on top of each other.
        bidirectional: whether each layer reads in both directions.
        dropout_rate: rate of dropout between layers, with a new mask at each step.
        scheme: the initialization, as for ``init_params``.
        max_time: for the scheme "chrono", as for ``init_params``.
        dtype: the dtype of the computation; None means that to which inputs and parameters promote.
        param_dtype: the dtype of the parameters.
        partitioning: mesh axes of each parameter, for example
            ``LSTMParams((None, "model"), (None, "model"), ("model",))``; None means none.
        rngs: streams of random keys: "params" for the parameters, "dropout" for masks.
    Raises:
        ValueError: for a rate that is not from 0 to below 1, a size below 1, or an unknown scheme.

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
        self.num_layers, self.bidirectional, self.dtype = num_layers, bidirectional, dtype
        self.dropout = nnx.Dropout(dropout_rate, rngs=rngs) if dropout_rate else None
        directions = ("_forward", "_backward") if bidirectional else ("",)
        for layer in range(num_layers):
            layer_inputs = len(directions) * hidden_size if layer else input_size
            for direction in directions:
                options = {"scheme": scheme, "max_time": max_time, "dtype": param_dtype}
                params = init_params(rngs.params(), layer_inputs, hidden_size, **options)
                setattr(self, f"layer_{layer}{direction}", _Layer(params, partitioning))

    def __call__(
        self,
        xs: ArrayLike,
        initial_state: tuple[PyTree, ...] | None = None,
        *,
        between: Between | None = None,
        **options: Any,
    ) -> tuple[tuple[PyTree, ...], jax.Array]:
        """Runs the layers over sequences, as ``lstm_stack`` does.

        Args:
            xs: ``[T, *batch, D]``, time first.
            initial_state: one state a layer; None means zeros throughout.
            between: ``between(layer, inputs, outputs)`` returns the next layer's inputs, after dropout of the outputs.
            options: ``lengths``, ``mask``, ``resets``, ``reset_state``, ``reverse``, ``remat`` and ``implementation``
                of ``lstm_stack``.
        Returns:
            (final_states, ys): one state a layer, and outputs ``[T, *batch, H]``, or ``2H`` if bidirectional.
        Raises:
            ValueError: naming the argument, what it got and what it wants.
        """
        sequence = jnp.asarray(xs)
        initial_state, options = unwrap_variables((initial_state, options))
        layers = [self._layer(layer) for layer in range(self.num_layers)]
        dtype = self.dtype or jnp.result_type(sequence, *jax.tree.leaves(layers))
        sequence, layers = jax.tree.map(lambda leaf: leaf.astype(dtype), (sequence, layers))
        dropout = self.dropout

        def drop(layer: int, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
            outputs = outputs if dropout is None else dropout(outputs)
            return outputs if between is None else between(layer, inputs, outputs)

        return lstm_stack(layers, sequence, initial_state, between=drop, **options)

    def _layer(self, layer: int) -> PyTree:
        if not self.bidirectional:
            return getattr(self, f"layer_{layer}").params()
        return Bidirectional(*(getattr(self, f"layer_{layer}_{name}").params() for name in Bidirectional._fields))


class _Layer(nnx.Module):
    """A module that holds the parameters of one direction of a layer."""

    def __init__(self, params: LSTMParams, partitioning: LSTMParams | None):
        for name, leaf in params._asdict().items():
            axes = {} if partitioning is None else {"out_sharding": getattr(partitioning, name)}
            setattr(self, name, nnx.Param(leaf, **axes))

    def params(self) -> LSTMParams:
        """Returns the arrays as ``LSTMParams``."""
        return LSTMParams(*(getattr(self, name)[...] for name in LSTMParams._fields))
