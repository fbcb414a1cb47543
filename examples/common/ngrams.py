"""The naive language model: how often did this code follow those?"""

import numpy as np


def ngram_loss(train: np.ndarray, valid: np.ndarray, size: int, order: int, discount: float = 0.75) -> float:
    """Nats a code of ``valid`` by an n-gram model of ``train``, both integers below ``size``.

    Absolute discounting (Ney, Essen and Kneser 1994), each order leaning on the one below, N(context) being the number
    of different codes seen behind a context:

        p(c | context) = (max(n(context, c) - d, 0) + d N(context) p(c | shorter)) / n(context)
    """
    probability = np.full(len(valid) - order + 1, 1 / size)
    for n in range(1, order + 1):
        wanted = _grams(valid[order - n :], n, size)
        grams, counts = np.unique(_grams(train, n, size), return_counts=True)
        contexts, first, kinds = np.unique(grams // size, return_index=True, return_counts=True)
        totals = np.add.reduceat(counts, first)
        gram_count, kind_count, total = (
            _look_up(names, values, name)
            for names, values, name in (
                (grams, counts, wanted),
                (contexts, kinds, wanted // size),
                (contexts, totals, wanted // size),
            )
        )
        leaning = np.maximum(gram_count - discount, 0) + discount * kind_count * probability
        probability = np.where(total > 0, leaning / np.maximum(total, 1), probability)
    return float(-np.log(probability).mean())


def _grams(codes: np.ndarray, n: int, size: int) -> np.ndarray:
    """One integer for each run of ``n`` codes; the last code is its remainder by ``size``."""
    runs = np.lib.stride_tricks.sliding_window_view(codes.astype(np.int64), n)
    return runs @ size ** np.arange(n - 1, -1, -1, dtype=np.int64)


def _look_up(names: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted name, 0 for those that are not there; names ascend."""
    place = np.minimum(np.searchsorted(names, wanted), len(names) - 1)
    return np.where(names[place] == wanted, values[place], 0)
