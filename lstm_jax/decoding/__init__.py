"""From scores to sequences: sampling, greedy and beam search over tokens, and CTC over frames."""

from lstm_jax.decoding.ctc import ctc_beam_search, ctc_greedy
from lstm_jax.decoding.tokens import DecodeResult, beam_search, greedy, keep_top_k, keep_top_p, sample

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
