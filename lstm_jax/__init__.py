"""The LSTM for JAX: pure functions, every derivative, one exact meaning on every device."""

from lstm_jax import cells
from lstm_jax.initializers import init_params, zero_state
from lstm_jax.sequence import check_replay, lstm, lstm_cell, unroll
from lstm_jax.steps import lengths_to_mask, resets_from_done, resets_from_segment_ids
from lstm_jax.structs import Cell, LSTMParams, LSTMState

__all__ = [
    "Cell",
    "LSTMParams",
    "LSTMState",
    "cells",
    "check_replay",
    "init_params",
    "lengths_to_mask",
    "lstm",
    "lstm_cell",
    "resets_from_done",
    "resets_from_segment_ids",
    "unroll",
    "zero_state",
]
