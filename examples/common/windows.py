"""Cuts series into training, validation and test windows to forecast from, with naive forecasts of each."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from common.series import Table
from lstm_jax import training


class Split(NamedTuple):
    """The rows at which forecasts start, of each part."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


class Windows(NamedTuple):
    """N scaled windows to forecast K steps from."""

    past: np.ndarray
    """``[N, T, D]``, the target in the first column"""
    future: np.ndarray
    """``[N, K, F]``"""
    naive: np.ndarray
    """``[N, K]``, the forecast that the model corrects"""
    target: np.ndarray
    """``[N, K]``"""
    level: np.ndarray
    """``[N, 1]``, what was subtracted from every target: its last value, or 0"""


def split_starts(num_rows: int, sizes: Sequence[float], history: int, horizon: int, seasons: Sequence[int]) -> Split:
    """Splits rows so that all that is forecast lies in the part; the past may reach into the part before.

    Args:
        num_rows: of the table.
        sizes: of training, validation and test part, in rows, or as shares where below 1.
        history: steps of the past that are read.
        horizon: steps that are forecast.
        seasons: steps that naive forecasts look back.
    Returns:
        The rows at which forecasts start.
    Raises:
        SystemExit: the sizes do not fit.
    """
    counts = [int(size * num_rows) if size < 1 else int(size) for size in sizes]
    lookback = max(history, *seasons)
    if len(counts) != 3 or sum(counts) > num_rows or min(counts) < horizon:
        raise SystemExit(
            f"split: got {list(sizes)} of {num_rows} rows, want three sizes that fit, rows or shares below 1, each at "
            f"least the horizon of {horizon}"
        )
    ends = np.cumsum(counts)
    begins = [lookback, ends[0], ends[1]]
    if ends[0] - lookback < horizon:
        raise SystemExit(f"history, seasons: got {lookback} steps back, want fewer than the {ends[0]} training rows")
    return Split(*(np.arange(begin, end - horizon + 1) for begin, end in zip(begins, ends, strict=True)))


def scale_table(table: Table, num_rows: int, log: bool) -> tuple[Table, Callable[[np.ndarray], np.ndarray]]:
    """Scales every series to mean 0 and deviation 1 over the first ``num_rows`` rows.

    Args:
        table: the series in their own units.
        num_rows: of the training part.
        log: whether to take the target's logarithm first.
    Returns:
        (table, inverse): the scaled table, and the function that brings targets back to their own unit.
    """
    table = table._replace(target=np.log(table.target) if log else table.target)
    columns = {name: getattr(table, name) for name in ("target", "past", "known")}
    scalers = {name: training.fit_scaler(values[:num_rows]) for name, values in columns.items()}
    scaled = table._replace(**{name: scalers[name].transform(values) for name, values in columns.items()})
    inverse = scalers["target"].inverse
    return scaled, lambda values: np.exp(inverse(values)) if log else inverse(values)


def make_windows(table: Table, starts: np.ndarray, history: int, horizon: int, relative: bool) -> Windows:
    """Cuts the window of each start; the naive forecast is left at 0.

    Args:
        table: a scaled table.
        starts: ``[N]``, the first row of each forecast.
        history: steps of the past.
        horizon: steps to forecast.
        relative: whether targets become distances from the last value before the start.
    Returns:
        The windows.
    """
    columns = np.column_stack([table.target, table.past, table.known])
    past = np.lib.stride_tricks.sliding_window_view(columns, history, axis=0)[starts - history]
    future = np.lib.stride_tricks.sliding_window_view(table.known, horizon, axis=0)[starts]
    target = np.lib.stride_tricks.sliding_window_view(table.target, horizon)[starts]
    level = table.target[starts - 1][:, None] * relative
    past = past.swapaxes(1, 2).copy()
    past[..., 0] -= level
    return Windows(past, future.swapaxes(1, 2), np.zeros_like(target), target - level, level)


def naive_forecasts(
    target: np.ndarray, starts: np.ndarray, horizon: int, seasons: Sequence[int]
) -> dict[str, np.ndarray]:
    """Returns forecasts ``[N, K]`` by name: the last value, and the value one season ago for each season."""
    ahead = np.arange(horizon)
    forecasts = {"last value": np.repeat(target[starts - 1][:, None], horizon, axis=1)}
    for season in seasons:
        back = season * -(-(ahead + 1) // season)  # the newest value of that phase that is known at the start
        forecasts[f"{season} steps ago"] = target[starts[:, None] + ahead - back]
    return forecasts
