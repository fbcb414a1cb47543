"""N-gram language models with absolute discounting, as baselines."""

from collections.abc import Sequence

import numpy as np


def baselines(train: np.ndarray, valid: np.ndarray, vocab_size: int, names: Sequence[str]) -> dict[str, float]:
    """Returns the losses of a unigram model, a bigram model and so on, one per name.

    Args:
        train: training codes, ``[T]``.
        valid: codes to score, ``[S]``.
        vocab_size: number of codes.
        names: names of the models, in ascending order n = 1, 2, ...
    Returns:
        Mean nats per code by name.
    """
    return {name: ngram_loss(train, valid, vocab_size, order) for order, name in enumerate(names, start=1)}


def ngram_loss(train: np.ndarray, valid: np.ndarray, vocab_size: int, order: int, discount: float = 0.75) -> float:
    """Returns the loss of an n-gram model with absolute discounting (Ney, Essen and Kneser 1994).

    An order interpolates with the next lower one; N(context) is the number of distinct codes that follow a context:

        p(c | context) = (max(n(context, c) - d, 0) + d N(context) p(c | shorter)) / n(context)

    Args:
        train: training codes, ``[T]``.
        valid: codes to score, ``[S]``.
        vocab_size: number of codes.
        order: n, the length of the n-grams.
        discount: d.
    Returns:
        Mean nats per code of ``valid``.
    """
    probability = np.full(len(valid) - order + 1, 1 / vocab_size)
    for n in range(1, order + 1):
        train_grams, counts = np.unique(_encode_ngrams(train, n, vocab_size), return_counts=True)
        train_contexts, first_indices, follower_counts = np.unique(
            train_grams // vocab_size, return_index=True, return_counts=True
        )
        context_counts = np.add.reduceat(counts, first_indices)
        valid_grams = _encode_ngrams(valid[order - n :], n, vocab_size)
        valid_contexts = valid_grams // vocab_size
        gram_count = _look_up(train_grams, counts, valid_grams)
        num_followers = _look_up(train_contexts, follower_counts, valid_contexts)
        context_count = _look_up(train_contexts, context_counts, valid_contexts)
        discounted = np.maximum(gram_count - discount, 0) + discount * num_followers * probability
        probability = np.where(context_count > 0, discounted / np.maximum(context_count, 1), probability)
    return float(-np.log(probability).mean())


def _encode_ngrams(codes: np.ndarray, n: int, vocab_size: int) -> np.ndarray:
    """Encodes each n-gram as an integer in base ``vocab_size``, whose last digit is the last code."""
    ngrams = np.lib.stride_tricks.sliding_window_view(codes.astype(np.int64), n)
    return ngrams @ vocab_size ** np.arange(n - 1, -1, -1, dtype=np.int64)


def _look_up(keys: np.ndarray, values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Returns the value of each query in a table with ascending keys, 0 where the key is absent."""
    indices = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
    return np.where(keys[indices] == queries, values[indices], 0)
