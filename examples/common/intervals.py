"""Calibrates forecast intervals to a chosen coverage.

The method is conformalized quantile regression (Romano et al. 2019, arXiv:1905.03222) over a rolling window.
"""

import numpy as np

COVERAGE = 0.8
CALIBRATION_SIZE = 500
"""forecasts in the rolling window"""


def conformity_scores(quantiles: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the distance of each outcome from its interval, negative inside.

    Args:
        quantiles: ascending quantiles, ``[N, K, Q]``; the first and the last bound the interval.
        target: outcomes, ``[N, K]``.
    Returns:
        Scores ``[N, K]``.
    """
    return np.maximum(quantiles[..., 0] - target, target - quantiles[..., -1])


def rolling_margins(valid_scores: np.ndarray, test_scores: np.ndarray) -> np.ndarray:
    """Returns the margin by which each test interval is widened on either side.

    It is the COVERAGE quantile of the scores of the newest CALIBRATION_SIZE forecasts whose outcome is known when the
    forecast is made.

    Args:
        valid_scores: conformity scores of the M forecasts before the test part, ``[M, K]``.
        test_scores: conformity scores of the test part, ``[N, K]``.
    Returns:
        Margins ``[N, K]``.
    """
    scores = np.concatenate([valid_scores, test_scores])
    window_size = min(len(valid_scores), CALIBRATION_SIZE)
    starts = np.arange(len(test_scores))
    margins = np.empty_like(test_scores)
    for step in range(test_scores.shape[1]):
        window_ends = len(valid_scores) + np.maximum(starts - step, 0)  # the outcomes of later forecasts are unknown
        windows = np.lib.stride_tricks.sliding_window_view(scores[:, step], window_size)
        margins[:, step] = np.quantile(windows[window_ends - window_size], COVERAGE, axis=1)
    return margins


def latest_margin(scores: np.ndarray) -> np.ndarray:
    """Returns the margin ``[K]`` of a forecast after the last row, from the known scores ``[N, K]``."""
    return np.quantile(scores[-CALIBRATION_SIZE:], COVERAGE, axis=0)


def widen(quantiles: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Widens intervals by a margin on either side; a negative margin narrows them, at most to the median.

    Args:
        quantiles: low, median and high, ``[..., 3]``.
        margin: margins, ``[...]``.
    Returns:
        Quantiles ``[..., 3]``.
    """
    low, median, high = np.moveaxis(quantiles, -1, 0)
    return np.stack([np.minimum(low - margin, median), median, np.maximum(high + margin, median)], axis=-1)


def coverage(quantiles: np.ndarray, target: np.ndarray) -> float:
    """Returns the share of outcomes ``[N, K]`` inside their intervals ``[N, K, Q]``."""
    return float(np.mean((quantiles[..., 0] <= target) & (target <= quantiles[..., -1])))
