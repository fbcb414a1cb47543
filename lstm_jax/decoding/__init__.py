"""Sequence decoding: sampling, greedy search and beam search over tokens, and CTC decoding of frames.

``sample``, ``greedy`` and ``beam_search`` decode with any function ``step(params, state, token) -> (state, logits)``.
``ctc_greedy`` and ``ctc_beam_search`` decode the logits of all frames. Each function decodes one sequence; use
``jax.vmap`` for a batch.
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
