"""The LSTM for JAX: pure functions, every derivative, one exact meaning on every device."""

import importlib
from typing import TYPE_CHECKING, Any

from lstm_jax import attention, cells, decoding, interop, models, regularizers
from lstm_jax._core.parallel import parallel_unroll
from lstm_jax._core.replay import check_replay
from lstm_jax._core.sequence import explain, lstm, lstm_cell, unroll
from lstm_jax._core.stack import init_stack, lstm_stack, stack_zero_state, unroll_stack
from lstm_jax._core.steps import lengths_to_mask, resets_from_done, resets_from_segment_ids
from lstm_jax._core.structs import Bidirectional, Cell, Inputs, LSTMParams, LSTMState
from lstm_jax.initializers import init_params, zero_state

if TYPE_CHECKING:
    from lstm_jax import diagnostics, flax_modules, training

__version__ = "0.1.0"

__all__ = [
    "Bidirectional",
    "Cell",
    "Inputs",
    "LSTMParams",
    "LSTMState",
    "__version__",
    "attention",
    "cells",
    "check_replay",
    "decoding",
    "diagnostics",
    "explain",
    "flax_modules",
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
    "training",
    "unroll",
    "unroll_stack",
    "zero_state",
]

_LAZY = ("diagnostics", "flax_modules", "training")
"""Imported when first used: what they need beyond jax is slow to import, or not installed."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"lstm_jax.{name}")
    raise AttributeError(f"module 'lstm_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
