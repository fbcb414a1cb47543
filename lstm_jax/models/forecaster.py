"""Forecasts a series for several steps at once, with its uncertainty: quantiles, as corrections of a naive forecast.

    state = layers(past)                                         past [T, *batch, D]
    direct:           out = dense(h)                             all steps from the last output
    encoder-decoder:  out_k = dense(decoder([future_k, naive_k]))    one step a step, from what is known of the future
    quantiles_k = naive_k + sort(out_k)                          [K, *batch, Q]

The naive forecast (the last value, the value of a day ago, ...) is an input and what is corrected, so that a model that
learned nothing is as good as it. Quantiles are learned by the pinball loss (Koenker and Bassett 1978).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.sequence import lstm
from lstm_jax._core.stack import init_stack, lstm_stack
from lstm_jax._core.structs import LSTMParams
from lstm_jax.initializers import init_params
from lstm_jax.models.layers import DenseParams, dense, dropout, init_dense, locked_dropout, split_key


class ForecasterParams(NamedTuple):
    """Parameters of the forecaster."""

    layers: tuple[Any, ...]
    """of ``lstm_stack``, over the past"""
    decoder: LSTMParams | None
    """over the future; None means direct"""
    head: DenseParams
    """``[H, Q]``, direct ``[H, K Q]``"""


def init_forecaster(
    key: jax.Array,
    input_size: int,
    future_size: int,
    horizon: int,
    num_quantiles: int,
    *,
    hidden_size: int = 64,
    num_layers: int = 1,
    use_decoder: bool = True,
    dtype: jnp.dtype = jnp.float32,
) -> ForecasterParams:
    """Draws the parameters; the last layer starts at 0, so that the first forecast is the naive one.

    Args:
        inputs: D, numbers a step of the past.
        known: F, numbers a step of the future.
        horizon: K, steps to forecast; quantiles: Q.
        decodes: encoder-decoder, or all steps directly from the last output; then ``known`` is not used.
    """
    encoder, decoder, last = jax.random.split(key, 3)
    head = init_dense(last, hidden_size, num_quantiles if use_decoder else horizon * num_quantiles, dtype)
    return ForecasterParams(
        init_stack(encoder, input_size, hidden_size, num_layers, dtype=dtype),
        init_params(decoder, future_size + 1, hidden_size, dtype=dtype) if use_decoder else None,
        jax.tree.map(jnp.zeros_like, head),
    )


def forecast(
    params: ForecasterParams,
    past: jax.Array,
    future: jax.Array,
    naive: jax.Array,
    *,
    key: jax.Array | None = None,
    dropout_rate: float = 0.0,
) -> jax.Array:
    """Quantiles ``[K, *batch, Q]``, ascending.

    Args:
        past: ``[T, *batch, D]``.
        future: ``[K, *batch, F]``, what is known of it, such as the hour and the day of the week; F may be 0.
        naive: ``[K, *batch]``.
        key: None means no dropout.
        rate: of dropout, on the past and before the last layer.
    """
    before, behind = split_key(key, 2)
    states, ys = lstm_stack(params.layers, locked_dropout(before, past, dropout_rate))
    if params.decoder is None:
        out = dense(params.head, dropout(behind, ys[-1:], dropout_rate)[0])
        out = jnp.moveaxis(out.reshape(*out.shape[:-1], len(naive), -1), -2, 0)
    else:
        xs = jnp.concatenate([future, naive[..., None]], axis=-1)
        _, ys = lstm(params.decoder, xs, states[-1])
        out = dense(params.head, dropout(behind, ys, dropout_rate))
    return naive[..., None] + jnp.sort(out, axis=-1)
