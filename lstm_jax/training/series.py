"""Time series: scaled by statistics of the training part, cut into windows."""

from typing import Any, NamedTuple

import numpy as np


class Scaler(NamedTuple):
    """The mean and the standard deviation of a series, taken from its training part alone."""

    mean: np.ndarray
    """``[features]``"""
    std: np.ndarray
    """``[features]``"""

    def transform(self, series: np.ndarray) -> np.ndarray:
        """Returns ``(series - mean) / std`` in float32."""
        return ((series - self.mean) / self.std).astype(np.float32)

    def inverse(self, series: Any) -> Any:
        """Returns ``series * std + mean``, in the unit of the original."""
        return series * self.std + self.mean


def fit_scaler(train: np.ndarray) -> Scaler:
    """Returns mean and standard deviation of ``train [N, features]``; a feature that never changes has deviation 1.

    Raises:
        ValueError: a value is not finite; the message names its row.
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
    """Returns every window of a series: its past, and what follows.

    Split the series into training and test part before, not the windows, which overlap.

    Args:
        series: ``[N, ...]``.
        history: steps of the past in a window.
        horizon: steps that follow.
    Returns:
        (past, future): views ``[windows, history, ...]`` and ``[windows, horizon, ...]``.
    Raises:
        ValueError: the series is shorter than one window.
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
