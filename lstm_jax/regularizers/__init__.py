"""Regularizers for any cell: dropout in all the places where the literature puts it, zoneout, and penalties.

Masks are drawn from a key outside the loop over time. A mask that changes with the step is drawn from
``fold_in(key, t)`` for each absolute step ``t``, so a sequence run in two pieces, the second with ``start=``, has the
masks of the whole. A rate is a probability of dropping, from 0 to below 1. The Python number 0 leaves no trace in the
compiled program; a traced rate works too, for populations. ``key=None`` means evaluation: nothing is dropped.

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
