"""The interface of a competitor: an LSTM layer that runs with given ``LSTMParams``."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from lstm_jax import LSTMParams, LSTMState


class Layer(NamedTuple):
    """An LSTM layer of a JAX library; ``weights`` are parameters in the library's format."""

    export_params: Callable[[LSTMParams], Any]
    """``export_params(params) -> weights``"""
    import_params: Callable[[Any], LSTMParams]
    """``import_params(weights) -> params``; also converts a gradient with respect to the weights"""
    run_sequence: Callable[..., jax.Array]
    """``run_sequence(weights, xs [T, *batch, D], *, reverse, lengths, resets) -> ys [T, *batch, H]``"""
    step: Callable[[Any, LSTMState, jax.Array], tuple[LSTMState, jax.Array]]
    """``step(weights, state, x [B, D]) -> (state, y)``"""
    unsupported: Mapping[str, str] = {}
    """kind of workload to the reason why the library cannot run it"""
    batch_first: bool = False
    """whether sequences are ``[*batch, T, ...]`` instead of ``[T, *batch, ...]``"""
    final_output: Callable[[Any, jax.Array], jax.Array] | None = None
    """``final_output(weights, xs) -> h [B, H]``: the last output; None means the last of ``run_sequence``"""
