"""Intervals of forecasts, widened or narrowed until as many outcomes lie inside as are meant to.

Conformalised quantile regression (Romano et al. 2019, arXiv:1905.03222) over a window that moves.
"""

import numpy as np

COVER = 0.8
RECENT = 500
"""forecasts by which an interval is calibrated"""


def misses(found: np.ndarray, target: np.ndarray) -> np.ndarray:
    """How far beyond its interval ``[N, K, Q]`` each target ``[N, K]`` lies; below 0 inside."""
    return np.maximum(found[..., 0] - target, target - found[..., -1])


def conformal(held_out: np.ndarray, test: np.ndarray) -> np.ndarray:
    """How much wider each interval is made ``[N, K]``: what would have covered a share COVER of the newest RECENT
    forecasts whose outcome is known, from the misses ``[M, K]`` before the test part and ``[N, K]`` in it."""
    every, size = np.concatenate([held_out, test]), min(len(held_out), RECENT)
    starts = np.arange(len(test))
    margins = np.empty_like(test)
    for ahead in range(test.shape[1]):
        newest = len(held_out) + np.maximum(starts - ahead, 0)  # the outcome of a later one is still to come
        windows = np.lib.stride_tricks.sliding_window_view(every[:, ahead], size)
        margins[:, ahead] = np.quantile(windows[newest - size], COVER, axis=1)
    return margins


def latest(missed: np.ndarray) -> np.ndarray:
    """The same ``[K]`` for a forecast from the end, where every outcome is known, from all misses ``[N, K]``."""
    return np.quantile(missed[-RECENT:], COVER, axis=0)


def widened(found: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Intervals ``[..., Q]`` with this margin ``[...]`` more on either side; narrowed no further than to the median."""
    low, median, high = np.moveaxis(found, -1, 0)
    return np.stack([np.minimum(low - margin, median), median, np.maximum(high + margin, median)], axis=-1)
