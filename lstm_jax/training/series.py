"""Time series: standardization by training statistics, and sliding windows."""

from typing import Any, NamedTuple

import numpy as np


class Scaler(NamedTuple):
    """Mean and standard deviation of each feature, to standardize a series; ``fit_scaler`` computes them."""

    mean: np.ndarray
    """``[features]``: mean of each feature over the training part"""
    std: np.ndarray
    """``[features]``: standard deviation of each feature over the training part; 1 for a constant feature"""

    def transform(self, series: np.ndarray) -> np.ndarray:
        """Returns the standardized series ``(series - mean) / std`` in float32."""
        return ((series - self.mean) / self.std).astype(np.float32)

    def inverse(self, series: Any) -> Any:
        """Returns ``series * std + mean``, which restores the original units."""
        return series * self.std + self.mean


def fit_scaler(train: np.ndarray) -> Scaler:
    """Returns a scaler with the mean and standard deviation of each feature of ``train``, shape ``[N, features]``.

    Fit it to the training part only. A constant feature gets standard deviation 1.

    Raises:
        ValueError: ``train`` holds NaN or infinity; the message names the first row.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> scaler = training.fit_scaler(np.array([[1.0], [3.0]]))
        >>> scaler.transform(np.array([[4.0]])).tolist(), scaler.inverse(np.array([[2.0]])).tolist()
        ([[2.0]], [[4.0]])
    """
    if not np.isfinite(train).all():
        row = int(np.argwhere(~np.isfinite(np.asarray(train)))[0][0])
        raise ValueError(f"train: got a value that is not finite in row {row}, want gaps filled or cut out")
    std = train.std(axis=0)
    return Scaler(train.mean(axis=0), np.where(std > 0, std, 1.0))


def sliding_windows(series: np.ndarray, history: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns all overlapping windows of a series, each as a past to read and a future to predict.

    Split the series into training and test parts before you cut windows; overlapping windows would leak test data.

    Args:
        series: ``[N, ...]``, one entry per time step.
        history: time steps in the past of a window.
        horizon: time steps in the future of a window.
    Returns:
        (past, future): views ``[windows, history, ...]`` and ``[windows, horizon, ...]`` of the series.
    Raises:
        ValueError: ``series`` has fewer than ``history + horizon`` time steps.
    Example:
        >>> import numpy as np
        >>> from lstm_jax import training
        >>> past, future = training.sliding_windows(np.arange(5), history=3, horizon=1)
        >>> past.tolist(), future.tolist()
        ([[0, 1, 2], [1, 2, 3]], [[3], [4]])
    """
    count = len(series) - history - horizon + 1
    if count < 1:
        raise ValueError(f"series: got {len(series)} steps, want at least history + horizon = {history + horizon}")
    views = np.lib.stride_tricks.sliding_window_view(series, history + horizon, axis=0)
    views = np.moveaxis(views, -1, 1)
    return views[:, :history], views[:, history:]
