"""What a library must offer to be compared: an LSTM layer on our weights."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from lstm_jax import LSTMParams, LSTMState


class Layer(NamedTuple):
    """An LSTM layer written in JAX. ``weights`` are the library's own; time comes first unless ``batch_first``."""

    pack: Callable[[LSTMParams], Any]
    """our parameters as the library's weights"""
    unpack: Callable[[Any], LSTMParams]
    """its weights, or a gradient with respect to them, as ours"""
    sequence: Callable[..., jax.Array]
    """``sequence(weights, xs [T, *batch, D], *, reverse, lengths, resets) -> ys [T, *batch, H]``"""
    cell: Callable[[Any, LSTMState, jax.Array], tuple[LSTMState, jax.Array]]
    """``cell(weights, state, x [B, D]) -> (state, y)``"""
    refuses: Mapping[str, str] = {}
    """kind of workload to the reason why this library has no such thing"""
    batch_first: bool = False
    last: Callable[[Any, jax.Array], jax.Array] | None = None
    """``last(weights, xs) -> h [B, H]`` after all steps, if the library gives it without the outputs"""
