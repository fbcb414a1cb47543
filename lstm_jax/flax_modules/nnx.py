"""Flax nnx: ``RNN`` in the place of ``nnx.RNN``, and ``LSTMStack``."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lstm_jax._core.stack import Between, lstm_stack
from lstm_jax._core.structs import Bidirectional, LSTMParams, PyTree
from lstm_jax.cells import GRU, LSTM
from lstm_jax.flax_modules.shared import How, Kind, check_standard, override, run
from lstm_jax.initializers import init_params
from lstm_jax.interop.nnx import import_gru, import_lstm
from lstm_jax.regularizers import check_rate

KINDS = {
    nnx.LSTMCell: Kind(LSTM, import_lstm),
    nnx.OptimizedLSTMCell: Kind(LSTM, import_lstm),
    nnx.GRUCell: Kind(GRU, import_gru),
}


class RNN(nnx.Module):
    """``nnx.RNN`` on the engine: the same arguments, parameters and results, for Flax's LSTM and GRU cells.

        nnx.RNN(nnx.OptimizedLSTMCell(64, 256, rngs=rngs))    ->    RNN(nnx.OptimizedLSTMCell(64, 256, rngs=rngs))

    What differs, on purpose, is what differs in ``flax_modules.linen.RNN``; and no random state is kept, so the module
    also works under plain ``jax.jit``, ``jax.grad`` and ``jax.vmap``. ``rngs``, ``broadcast_rngs`` and ``state_axes``
    are therefore not taken, and of a checkpoint of ``nnx.RNN`` the parameters load, ``nnx.state(model, nnx.Param)``.
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
        if type(cell) not in KINDS:
            known = ", ".join(kind.__name__ for kind in KINDS)
            raise ValueError(f"cell: got {type(cell).__name__}, want one of {known}")
        check_standard(cell, nnx.sigmoid, nnx.tanh)
        self.cell = cell
        self.how = How(time_major, return_carry, reverse, keep_order)
        self.remat = remat

    def __call__(
        self,
        inputs: jax.Array,
        *,
        initial_carry: Any = None,
        seq_lengths: jax.Array | None = None,
        resets: jax.Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Any:
        """As ``nnx.RNN``: ``inputs [*batch, T, D]``, or ``[T, *batch, D]`` if ``time_major``; ``resets`` without D."""
        how = override(
            self.how, return_carry=return_carry, time_major=time_major, reverse=reverse, keep_order=keep_order
        )
        if initial_carry is None:
            first = inputs.shape[1:] if how.time_major else (*inputs.shape[:-2], inputs.shape[-1])
            initial_carry = self.cell.initialize_carry(first, nnx.Rngs(0) if rngs is None else rngs)
        params = nnx.to_pure_dict(nnx.state(self.cell, nnx.Param))
        kind = KINDS[type(self.cell)]
        return run(kind, params, initial_carry, inputs, seq_lengths, resets, how, self.cell.dtype, self.remat)


class LSTMStack(nnx.Module):
    """``lstm_stack`` with its parameters; options and names of parameters as in ``flax_modules.linen.LSTMStack``.

    Dropout acts from the start, as ``nnx.Dropout`` does, until ``model.eval()``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        scheme: str = "orthogonal_per_gate",
        max_time: int | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        partitioning: LSTMParams | None = None,
        rngs: nnx.Rngs,
    ):
        check_rate("dropout", dropout)
        self.num_layers, self.bidirectional, self.dtype = num_layers, bidirectional, dtype
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None
        directions = ("_forward", "_backward") if bidirectional else ("",)
        for layer in range(num_layers):
            inputs = len(directions) * hidden_size if layer else input_size
            for name in directions:
                options = {"scheme": scheme, "max_time": max_time, "dtype": param_dtype}
                params = init_params(rngs.params(), inputs, hidden_size, **options)
                setattr(self, f"layer_{layer}{name}", _Layer(params, partitioning))

    def __call__(
        self,
        xs: jax.Array,
        initial_state: tuple[PyTree, ...] | None = None,
        *,
        between: Between | None = None,
        **options: Any,
    ) -> tuple[tuple[PyTree, ...], jax.Array]:
        """``xs [T, *batch, D]``; dropout comes before ``between``; options as for ``lstm_stack``."""
        layers = [self._layer(layer) for layer in range(self.num_layers)]
        dtype = self.dtype or jnp.result_type(xs, *jax.tree.leaves(layers))
        xs, layers = jax.tree.map(lambda leaf: leaf.astype(dtype), (xs, layers))

        dropout = self.dropout

        def drop(layer: int, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
            outputs = outputs if dropout is None else dropout(outputs)
            return outputs if between is None else between(layer, inputs, outputs)

        return lstm_stack(layers, xs, initial_state, between=drop, **options)

    def _layer(self, layer: int) -> PyTree:
        if not self.bidirectional:
            return getattr(self, f"layer_{layer}").params()
        return Bidirectional(*(getattr(self, f"layer_{layer}_{name}").params() for name in Bidirectional._fields))


class _Layer(nnx.Module):
    """The parameters of one layer and direction."""

    def __init__(self, params: LSTMParams, partitioning: LSTMParams | None):
        for name, leaf in params._asdict().items():
            axes = {} if partitioning is None else {"out_sharding": getattr(partitioning, name)}
            setattr(self, name, nnx.Param(leaf, **axes))

    def params(self) -> LSTMParams:
        return LSTMParams(*(getattr(self, name)[...] for name in LSTMParams._fields))
