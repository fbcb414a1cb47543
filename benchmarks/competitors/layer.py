"""The functions that a library must offer to be compared: an LSTM layer on the same weights as ours."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from lstm_jax import LSTMParams, LSTMState


class Layer(NamedTuple):
    """An LSTM layer written in JAX; ``weights`` are in the library's own format.

    Time is the first axis, unless ``batch_first``.
    """

    export_params: Callable[[LSTMParams], Any]
    """``export_params(params) -> weights``"""
    import_params: Callable[[Any], LSTMParams]
    """``import_params(weights) -> params``; it takes a gradient with respect to the weights as well"""
    run_sequence: Callable[..., jax.Array]
    """``run_sequence(weights, xs [T, *batch, D], *, reverse, lengths, resets) -> ys [T, *batch, H]``"""
    step: Callable[[Any, LSTMState, jax.Array], tuple[LSTMState, jax.Array]]
    """``step(weights, state, x [B, D]) -> (state, y)``"""
    unsupported: Mapping[str, str] = {}
    """kind of workload to the reason why this library cannot run it"""
    batch_first: bool = False
    final_output: Callable[[Any, jax.Array], jax.Array] | None = None
    """``final_output(weights, xs) -> h [B, H]`` after all steps, if the library gives it without the other outputs"""
