"""Calibrates the intervals of forecasts, so that a chosen share of the outcomes falls inside.

Conformalized quantile regression (Romano et al. 2019, arXiv:1905.03222) over a rolling window of forecasts.
"""

import numpy as np

COVERAGE = 0.8
CALIBRATION_SIZE = 500
"""forecasts in the rolling window by which an interval is calibrated"""


def conformity_scores(quantiles: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns how far each target ``[N, K]`` lies outside its interval ``[N, K, Q]``; negative inside."""
    return np.maximum(quantiles[..., 0] - target, target - quantiles[..., -1])


def rolling_margins(valid_scores: np.ndarray, test_scores: np.ndarray) -> np.ndarray:
    """Returns by how much each test interval ``[N, K]`` has to be widened on either side.

    The margin is what would have covered a share COVERAGE of the newest CALIBRATION_SIZE forecasts whose outcome is
    known when the forecast is made, from the scores ``[M, K]`` before the test part and ``[N, K]`` within it.
    """
    scores, size = np.concatenate([valid_scores, test_scores]), min(len(valid_scores), CALIBRATION_SIZE)
    starts = np.arange(len(test_scores))
    margins = np.empty_like(test_scores)
    for ahead in range(test_scores.shape[1]):
        newest = len(valid_scores) + np.maximum(starts - ahead, 0)  # the outcomes of later forecasts are unknown
        windows = np.lib.stride_tricks.sliding_window_view(scores[:, ahead], size)
        margins[:, ahead] = np.quantile(windows[newest - size], COVERAGE, axis=1)
    return margins


def latest_margin(scores: np.ndarray) -> np.ndarray:
    """Returns the margin ``[K]`` of a forecast from the end of the data, where all scores ``[N, K]`` are known."""
    return np.quantile(scores[-CALIBRATION_SIZE:], COVERAGE, axis=0)


def widen(quantiles: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Widens intervals ``[..., Q]`` by a margin ``[...]`` on either side, or narrows them down to the median."""
    low, median, high = np.moveaxis(quantiles, -1, 0)
    return np.stack([np.minimum(low - margin, median), median, np.maximum(high + margin, median)], axis=-1)


def coverage(quantiles: np.ndarray, target: np.ndarray) -> float:
    """Returns the share of targets ``[N, K]`` inside their intervals ``[N, K, Q]``."""
    return float(np.mean((quantiles[..., 0] <= target) & (target <= quantiles[..., -1])))
