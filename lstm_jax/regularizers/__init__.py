"""Regularizers for any recurrent cell: dropout of activations and weights, zoneout, and penalties.

Masks are sampled outside the loop over time. A mask that changes with the step is sampled from ``fold_in(key, t)`` for
each absolute step ``t``, so a sequence processed in segments, with ``start=`` for each, gets the masks of the whole
sequence. A rate is a probability of dropping, at least 0 and below 1. The Python number 0 compiles to no operation, and
rates may be traced. ``key=None`` means evaluation and disables dropout.

    xs = locked_dropout(input_key, xs, 0.3)
    params = drop_connect(weight_key, params, 0.5)
    cell, inputs = zoneout(zoneout_key, cells.LSTM, xs, LSTMState(h=0.05, c=0.5), state)
    state, ys = unroll(cell, params, inputs)
    loss = task_loss(ys) + temporal_activation_penalty(ys) + weight_penalty(params, l2=1e-6, pattern="kernel")
"""

from lstm_jax.regularizers.array_dropout import drop_connect, dropout, embedding_dropout, locked_dropout
from lstm_jax.regularizers.masks import Rate, check_rate, is_zero_rate, scaled_mask
from lstm_jax.regularizers.penalties import activation_penalty, temporal_activation_penalty, weight_penalty
from lstm_jax.regularizers.recurrent import (
    MaskedParams,
    candidate_dropout,
    get_h,
    recurrent_dropout,
    replace_h,
    zoneout,
)

__all__ = [
    "MaskedParams",
    "Rate",
    "activation_penalty",
    "candidate_dropout",
    "check_rate",
    "drop_connect",
    "dropout",
    "embedding_dropout",
    "get_h",
    "is_zero_rate",
    "locked_dropout",
    "recurrent_dropout",
    "replace_h",
    "scaled_mask",
    "temporal_activation_penalty",
    "weight_penalty",
    "zoneout",
]
