"""The naive language model: how often a code follows those before it."""

from collections.abc import Sequence

import numpy as np


def baselines(train: np.ndarray, valid: np.ndarray, vocab_size: int, names: Sequence[str]) -> dict[str, float]:
    """Nats a code of ``valid`` by a unigram model, a bigram model, ... of ``train``, one for each name."""
    return {name: ngram_loss(train, valid, vocab_size, order) for order, name in enumerate(names, start=1)}


def ngram_loss(train: np.ndarray, valid: np.ndarray, vocab_size: int, order: int, discount: float = 0.75) -> float:
    """Nats a code of ``valid`` by an n-gram model of ``train``, both integers below ``vocab_size``.

    Absolute discounting (Ney, Essen and Kneser 1994), each order backed by the one below, N(context) being the number
    of different codes that follow a context:

        p(c | context) = (max(n(context, c) - d, 0) + d N(context) p(c | shorter)) / n(context)
    """
    probability = np.full(len(valid) - order + 1, 1 / vocab_size)
    for n in range(1, order + 1):
        wanted = _grams(valid[order - n :], n, vocab_size)
        grams, counts = np.unique(_grams(train, n, vocab_size), return_counts=True)
        contexts, first, num_followers = np.unique(grams // vocab_size, return_index=True, return_counts=True)
        totals = np.add.reduceat(counts, first)
        gram_count, follower_count, total = (
            _look_up(keys, values, key)
            for keys, values, key in (
                (grams, counts, wanted),
                (contexts, num_followers, wanted // vocab_size),
                (contexts, totals, wanted // vocab_size),
            )
        )
        discounted = np.maximum(gram_count - discount, 0) + discount * follower_count * probability
        probability = np.where(total > 0, discounted / np.maximum(total, 1), probability)
    return float(-np.log(probability).mean())


def _grams(codes: np.ndarray, n: int, vocab_size: int) -> np.ndarray:
    """Makes one integer of each run of ``n`` codes; the last code is its remainder by ``vocab_size``."""
    runs = np.lib.stride_tricks.sliding_window_view(codes.astype(np.int64), n)
    return runs @ vocab_size ** np.arange(n - 1, -1, -1, dtype=np.int64)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key, 0 for those that do not occur; the keys ascend."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
