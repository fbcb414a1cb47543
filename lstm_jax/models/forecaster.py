"""A multi-step forecaster of a time series: quantiles, predicted as corrections of a naive forecast.

    state, h = encoder(past)                        past [T, *batch, D], h the last output
    out_k = dense(decoder([future_k, naive_k]))     with a decoder, which starts from ``state``
    out = dense(h)                                  without a decoder: all K steps at once
    quantiles_k = naive_k + sort(out_k)             [K, *batch, Q]

Letters: T past steps of D features, K forecast steps of F known covariates, Q quantiles. The naive forecast is, for
example, the last value or the value one day earlier. The decoder reads it, and the output is added to it, so an
untrained model returns the naive forecast. Train the quantiles with the pinball loss (Koenker and Bassett 1978).
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
    """Parameters of the forecaster, initialized by ``init_forecaster``."""

    encoder: tuple[Any, ...]
    """parameters of ``lstm_stack``, with D input features"""
    decoder: LSTMParams | None
    """parameters of ``lstm``, with F + 1 input features; None for a direct forecast"""
    head: DenseParams
    """the dense output layer, kernel ``[H, Q]``, or ``[H, K Q]`` for a direct forecast"""


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
    """Initializes the parameters of a forecaster.

    The output layer is 0, so the untrained model returns the naive forecast.

    Args:
        key: a JAX random key.
        input_size: D, the features per past step.
        future_size: F, the known covariates per future step, 0 or more; only a decoder reads them.
        horizon: K, the number of steps to forecast.
        num_quantiles: Q, the number of quantiles per step.
        hidden_size: H, the hidden size of each layer.
        num_layers: number of encoder layers, at least 1.
        use_decoder: True forecasts step by step with a decoder; False forecasts all steps from the encoder's last
            output.
        dtype: dtype of the parameters; half-precision parameters are sampled in float32 and cast.
    Returns:
        ForecasterParams: the parameters for ``forecast``.
    Raises:
        ValueError: if ``num_layers``, ``input_size`` or ``hidden_size`` is below 1.

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
        params: parameters from ``init_forecaster``.
        past: ``[T, *batch, D]``, the observed steps.
        future: ``[K, *batch, F]``, covariates known in advance, such as the hour and the day of the week; F may be 0.
            A direct forecast ignores them.
        naive: ``[K, *batch]``, the naive forecast.
        key: a JAX random key; None disables dropout.
        dropout_rate: probability of dropping each feature of the past, with one mask for all steps, and each input of
            the output layer.
    Returns:
        The quantiles ``[K, *batch, Q]``, ascending along the last axis.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from lstm_jax.models import forecaster
        >>> params = forecaster.init_forecaster(jax.random.key(0), 3, 2, horizon=24, num_quantiles=5)
        >>> past, future, naive = jnp.ones((96, 8, 3)), jnp.ones((24, 8, 2)), jnp.ones((24, 8))
        >>> forecaster.forecast(params, past, future, naive).shape
        (24, 8, 5)
    """
    input_key, head_key = split_key(key, 2)
    encoder_states, ys = lstm_stack(params.encoder, locked_dropout(input_key, past, dropout_rate))
    if params.decoder is None:
        flat_out = dense(params.head, dropout(head_key, ys[-1:], dropout_rate)[0])
        out = jnp.moveaxis(flat_out.reshape(*flat_out.shape[:-1], len(naive), -1), -2, 0)
    else:
        xs = jnp.concatenate([future, naive[..., None]], axis=-1)
        _, decoder_ys = lstm(params.decoder, xs, encoder_states[-1])
        out = dense(params.head, dropout(head_key, decoder_ys, dropout_rate))
    return naive[..., None] + jnp.sort(out, axis=-1)
