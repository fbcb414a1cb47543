"""Flax linen: ``RNN`` in the place of ``nn.RNN``, and ``LSTMStack``."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from lstm_jax._core.stack import Between, lstm_stack
from lstm_jax._core.structs import Bidirectional, LSTMParams, PyTree
from lstm_jax.cells import GRU, LSTM
from lstm_jax.flax_modules.shared import How, Kind, check_standard, override, run
from lstm_jax.initializers import init_params
from lstm_jax.interop.linen import import_gru, import_lstm
from lstm_jax.regularizers import check_rate

KINDS = {
    nn.LSTMCell: Kind(LSTM, import_lstm),
    nn.OptimizedLSTMCell: Kind(LSTM, import_lstm),
    nn.GRUCell: Kind(GRU, import_gru),
}


class RNN(nn.Module):
    """``nn.RNN`` on the engine: the same arguments, parameter tree and results, for Flax's LSTM and GRU cells.

        nn.RNN(nn.OptimizedLSTMCell(256))        ->        RNN(nn.OptimizedLSTMCell(256))

    What differs, on purpose: outputs behind a sequence's length are 0; a length of 0 returns the initial carry; NaN in
    padding reaches no gradient; with ``dtype=bfloat16`` outputs are bfloat16 and the memory float32, where Flax returns
    float32. ``resets`` and ``remat`` are those of ``lstm_jax.lstm``. ``unroll`` and the options of ``nn.scan`` are not
    taken. The carry is Flax's ``(c, h)``; ``LSTMState`` goes in by name.
    """

    cell: nn.RNNCellBase
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    remat: str | int | None = None

    def __call__(
        self,
        inputs: jax.Array,
        *,
        initial_carry: Any = None,
        init_key: jax.Array | None = None,
        seq_lengths: jax.Array | None = None,
        resets: jax.Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """As ``nn.RNN``: ``inputs [*batch, T, D]``, or ``[T, *batch, D]`` if ``time_major``; ``resets`` without D."""
        how = override(
            How(self.time_major, self.return_carry, self.reverse, self.keep_order),
            return_carry=return_carry,
            time_major=time_major,
            reverse=reverse,
            keep_order=keep_order,
        )
        if type(self.cell) not in KINDS:
            known = ", ".join(kind.__name__ for kind in KINDS)
            raise ValueError(f"cell: got {type(self.cell).__name__}, want one of {known}")
        check_standard(self.cell, nn.sigmoid, nn.tanh)
        first = inputs[0] if how.time_major else inputs[..., 0, :]
        key = jax.random.key(0) if init_key is None else init_key
        carry = self.cell.initialize_carry(key, first.shape) if initial_carry is None else initial_carry
        if self.is_initializing():
            self.cell(carry, first)
        params = nn.meta.unbox(self.cell.variables["params"])
        kind = KINDS[type(self.cell)]
        return run(kind, params, carry, inputs, seq_lengths, resets, how, self.cell.dtype, self.remat)


class LSTMStack(nn.Module):
    """``lstm_stack`` with its parameters: layers, directions, dropout between layers.

    Called like ``lstm_stack``, time first, and returns ``(final_states, ys)``. Parameters are ours: ``layer_0`` holds
    ``input_kernel``, ``recurrent_kernel`` and ``bias``, or ``layer_0_forward`` and ``layer_0_backward`` do.
    """

    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    """rate between layers, a new mask at each step; drawn from the stream "dropout" """
    scheme: str = "orthogonal_per_gate"
    max_time: int | None = None
    """for the scheme "chrono" """
    dtype: Any = None
    """of the computation; None: what inputs and parameters promote to"""
    param_dtype: Any = jnp.float32
    partitioning: LSTMParams | None = None
    """mesh axes of each parameter, for example ``LSTMParams((None, "model"), (None, "model"), ("model",))``"""

    @nn.compact
    def __call__(
        self,
        xs: jax.Array,
        initial_state: tuple[PyTree, ...] | None = None,
        *,
        deterministic: bool = True,
        between: Between | None = None,
        **options: Any,
    ) -> tuple[tuple[PyTree, ...], jax.Array]:
        """``xs [T, *batch, D]``; dropout, unless ``deterministic``, comes before ``between``."""
        check_rate("dropout", self.dropout)
        directions = ("_forward", "_backward") if self.bidirectional else ("",)
        layers, inputs = [], xs.shape[-1]
        for layer in range(self.num_layers):
            both = [self._layer(f"layer_{layer}{name}")(inputs) for name in directions]
            layers.append(Bidirectional(*both) if self.bidirectional else both[0])
            inputs = len(directions) * self.hidden_size
        dtype = self.dtype or jnp.result_type(xs, *jax.tree.leaves(layers))
        xs, layers = jax.tree.map(lambda leaf: leaf.astype(dtype), (xs, layers))

        def drop(layer: int, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
            outputs = nn.Dropout(self.dropout, name=f"dropout_{layer}")(outputs, deterministic=deterministic)
            return outputs if between is None else between(layer, inputs, outputs)

        return lstm_stack(layers, xs, initial_state, between=drop, **options)

    def _layer(self, name: str) -> "_Layer":
        draw = partial(init_params, scheme=self.scheme, max_time=self.max_time, dtype=self.param_dtype)
        return _Layer(self.hidden_size, draw, self.partitioning, name=name)


class _Layer(nn.Module):
    """The parameters of one layer and direction."""

    hidden_size: int
    draw: Callable[..., LSTMParams]
    partitioning: LSTMParams | None

    @nn.compact
    def __call__(self, input_size: int) -> LSTMParams:
        def draw(part: str) -> Any:
            def init(key: jax.Array) -> jax.Array:
                return getattr(self.draw(key, input_size, self.hidden_size), part)

            axes = None if self.partitioning is None else getattr(self.partitioning, part)
            return self.param(part, init if axes is None else nn.with_partitioning(init, axes))

        return LSTMParams(*map(draw, LSTMParams._fields))
