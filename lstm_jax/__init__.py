"""The LSTM for JAX: pure functions, every derivative, one exact meaning on every device."""

from lstm_jax import attention, cells, ctc, decoding, interop, models, regularizers
from lstm_jax.initializers import init_params, zero_state
from lstm_jax.parallel import parallel_unroll
from lstm_jax.replay import check_replay
from lstm_jax.sequence import explain, lstm, lstm_cell, unroll
from lstm_jax.stack import init_stack, lstm_stack, stack_zero_state, unroll_stack
from lstm_jax.steps import lengths_to_mask, resets_from_done, resets_from_segment_ids
from lstm_jax.structs import Bidirectional, Cell, Inputs, LSTMParams, LSTMState

__all__ = [
    "Bidirectional",
    "Cell",
    "Inputs",
    "LSTMParams",
    "LSTMState",
    "attention",
    "cells",
    "check_replay",
    "ctc",
    "decoding",
    "explain",
    "init_params",
    "init_stack",
    "interop",
    "lengths_to_mask",
    "lstm",
    "lstm_cell",
    "lstm_stack",
    "models",
    "parallel_unroll",
    "regularizers",
    "resets_from_done",
    "resets_from_segment_ids",
    "stack_zero_state",
    "unroll",
    "unroll_stack",
    "zero_state",
]
