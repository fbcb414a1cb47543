"""A forecaster of several steps of a series with their uncertainty: quantiles, as corrections of a naive forecast.

    state = encoder(past)                                   past [T, *batch, D]
    with a decoder:  out_k = dense(decoder([future_k, naive_k]))      one step at a time, starting at that state
    direct:          out = dense(h)                         all K steps from the encoder's last output
    quantiles_k = naive_k + sort(out_k)                     [K, *batch, Q]

Letters: K steps to forecast, F numbers of each that are known beforehand, Q quantiles. The naive forecast (the last
value, the value of a day ago, ...) is an input of the decoder and what the output is added to, so that a model that has
learned nothing is as good as it. The pinball loss trains the quantiles (Koenker and Bassett 1978).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from lstm_jax._core.sequence import lstm
from lstm_jax._core.stack import init_stack, lstm_stack
from lstm_jax._core.structs import LSTMParams
from lstm_jax.initializers import init_params
from lstm_jax.models.layers import DenseParams, dense, init_dense, split_key
from lstm_jax.regularizers import Rate, dropout, locked_dropout


class ForecasterParams(NamedTuple):
    """Parameters of the forecaster, made by ``init_forecaster``."""

    encoder: tuple[Any, ...]
    """parameters of ``lstm_stack``, over the past"""
    decoder: LSTMParams | None
    """over the future, reading F + 1 numbers a step; None means a direct forecast"""
    head: DenseParams
    """``[H, Q]``, or ``[H, K Q]`` for a direct forecast"""


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
    dtype: DTypeLike = jnp.float32,
) -> ForecasterParams:
    """Draws the parameters of a forecaster; its last layer is 0, so that its first forecast is the naive one.

    Args:
        key: a JAX random key.
        input_size: D, the numbers of a past step.
        future_size: F, the numbers of a future step that are known beforehand, 0 or more; only a decoder reads them.
        horizon: K, the steps to forecast.
        num_quantiles: Q, the quantiles of each step.
        hidden_size: H, the units of each layer.
        num_layers: layers of the encoder, at least 1.
        use_decoder: True forecasts step by step with a decoder, False all steps directly from the last output.
        dtype: the dtype of the parameters; half precision is drawn in float32 and cast.
    Returns:
        ForecasterParams: for ``forecast``.
    Raises:
        ValueError: ``num_layers`` or a size of the layers is below 1.

    Example:
        >>> import jax
        >>> from lstm_jax.models import forecaster
        >>> params = forecaster.init_forecaster(jax.random.key(0), 3, 2, horizon=24, num_quantiles=5)
        >>> params.head.kernel.shape
        (64, 5)
    """
    encoder_key, decoder_key, head_key = jax.random.split(key, 3)
    head_size = num_quantiles if use_decoder else horizon * num_quantiles
    head = init_dense(head_key, hidden_size, head_size, dtype)
    return ForecasterParams(
        encoder=init_stack(encoder_key, input_size, hidden_size, num_layers, dtype=dtype),
        decoder=init_params(decoder_key, future_size + 1, hidden_size, dtype=dtype) if use_decoder else None,
        head=jax.tree.map(jnp.zeros_like, head),
    )


def forecast(
    params: ForecasterParams,
    past: jax.Array,
    future: jax.Array,
    naive: jax.Array,
    *,
    key: jax.Array | None = None,
    dropout_rate: Rate = 0.0,
) -> jax.Array:
    """Forecasts quantiles of the K steps after ``past``.

    Args:
        params: made by ``init_forecaster``.
        past: ``[T, *batch, D]``.
        future: ``[K, *batch, F]``, what is known of the future, such as the hour and the day of the week; F may be 0.
            A direct forecast does not read it.
        naive: ``[K, *batch]``, the naive forecast.
        key: a JAX random key; None means no dropout.
        dropout_rate: the probability of dropping a number of the past, with one mask for all steps, and before the
            last layer.
    Returns:
        the quantiles ``[K, *batch, Q]``, ascending along the last axis.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import forecaster
        >>> params = forecaster.init_forecaster(jax.random.key(0), 3, 2, horizon=24, num_quantiles=5)
        >>> past, future, naive = jnp.ones((96, 8, 3)), jnp.ones((24, 8, 2)), jnp.ones((24, 8))
        >>> forecaster.forecast(params, past, future, naive).shape
        (24, 8, 5)
    """
    input_key, head_key = split_key(key, 2)
    final_states, ys = lstm_stack(params.encoder, locked_dropout(input_key, past, dropout_rate))
    if params.decoder is None:
        out = dense(params.head, dropout(head_key, ys[-1:], dropout_rate)[0])
        out = jnp.moveaxis(out.reshape(*out.shape[:-1], len(naive), -1), -2, 0)
    else:
        xs = jnp.concatenate([future, naive[..., None]], axis=-1)
        _, ys = lstm(params.decoder, xs, final_states[-1])
        out = dense(params.head, dropout(head_key, ys, dropout_rate))
    return naive[..., None] + jnp.sort(out, axis=-1)
