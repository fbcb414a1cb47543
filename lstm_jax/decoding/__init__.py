"""From logits to sequences: sampling, greedy and beam search over tokens, and CTC decoding of frames.

``sample``, ``greedy`` and ``beam_search`` take any function ``step(params, state, token) -> (state, logits)`` of one
sequence; ``ctc_greedy`` and ``ctc_beam_search`` take the logits of all frames. ``jax.vmap`` decodes a batch.
"""

from lstm_jax.decoding.beam import beam_search
from lstm_jax.decoding.ctc import ctc_beam_search, ctc_greedy
from lstm_jax.decoding.tokens import DecodeResult, greedy, keep_top_k, keep_top_p, sample

__all__ = [
    "DecodeResult",
    "beam_search",
    "ctc_beam_search",
    "ctc_greedy",
    "greedy",
    "keep_top_k",
    "keep_top_p",
    "sample",
]
