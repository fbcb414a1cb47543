"""Cuts series into training, validation and test windows to forecast from, with naive forecasts of each."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

from common.series import Table
from lstm_jax import training


def whole_numbers(text: str) -> list[int]:
    """Reads integers with commas between."""
    try:
        return [int(word) for word in text.split(",") if word]
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text}, want whole numbers with commas between") from None


def part_sizes(text: str) -> list[float]:
    """Reads the sizes of training, validation and test part, rows or shares, with commas between."""
    try:
        train, valid, test = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text}, want three numbers with commas between") from None
    return [train, valid, test]


WholeNumbers = Annotated[list[int], whole_numbers]
PartSizes = Annotated[list[float], part_sizes]


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


def fit_scalers(table: Table, num_rows: int, log: bool) -> dict[str, training.Scaler]:
    """Returns scalers of target, past and future by the first rows; with ``log`` of the target's logarithm."""
    columns = _columns(table, log)
    return {name: training.fit_scaler(values[:num_rows]) for name, values in columns.items()}


def scale_table(table: Table, scalers: dict[str, training.Scaler], log: bool) -> Table:
    """Brings every series to mean 0 and deviation 1, after taking the target's logarithm where asked to."""
    columns = {name: scalers[name].transform(values) for name, values in _columns(table, log).items()}
    return table._replace(target=columns["target"], past=columns["past"], future=columns["future"])


def unscale_target(target: np.ndarray, scalers: dict[str, training.Scaler], log: bool) -> np.ndarray:
    """Brings targets back to their own unit."""
    values: np.ndarray = scalers["target"].inverse(target)
    return np.exp(values) if log else values


def _columns(table: Table, log: bool) -> dict[str, np.ndarray]:
    """Returns the series that are scaled."""
    if log and table.target.min() <= 0:
        raise SystemExit(f"--set log: got a target of {table.target.min()}, want all above 0")
    return {"target": np.log(table.target) if log else table.target, "past": table.past, "future": table.future}


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
    columns = np.column_stack([table.target, table.past, table.future])
    past = np.lib.stride_tricks.sliding_window_view(columns, history, axis=0)[starts - history]
    future = np.lib.stride_tricks.sliding_window_view(table.future, horizon, axis=0)[starts]
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


class Problem(NamedTuple):
    """The windows of the three parts, with the naive forecast that is best on the validation part."""

    split: Split
    scalers: dict[str, training.Scaler]
    train: Windows
    valid: Windows
    test: Windows
    naive: dict[str, np.ndarray]
    """scaled naive forecasts of the test part, ``[N, K]``, by name"""
    naive_name: str
    """of the one that the model corrects"""


def make_problem(table: Table, settings: Mapping[str, Any]) -> Problem:
    """Splits, scales and cuts a table.

    Args:
        table: the series in their own units.
        settings: ``split``, the sizes of the parts; ``history`` and ``horizon``, steps that are read and forecast;
            ``seasons``, steps that naive forecasts look back; ``relative``, whether targets are distances from the last
            value; ``log``, whether the target's logarithm is forecast.
    Returns:
        The problem.
    """
    names = "split", "history", "horizon", "seasons", "relative", "log"
    sizes, history, horizon, seasons, relative, log = (settings[name] for name in names)
    split = split_starts(len(table.target), sizes, history, horizon, seasons)
    scalers = fit_scalers(table, split.valid[0], log)
    scaled = scale_table(table, scalers, log)
    forecasts = [naive_forecasts(scaled.target, starts, horizon, seasons) for starts in split]
    parts = [make_windows(scaled, starts, history, horizon, relative) for starts in split]
    valid_target = parts[1].target + parts[1].level
    best = min(forecasts[1], key=lambda name: np.abs(forecasts[1][name] - valid_target).mean())
    train, valid, test = (
        part._replace(naive=naive[best] - part.level) for part, naive in zip(parts, forecasts, strict=True)
    )
    return Problem(split, scalers, train, valid, test, forecasts[2], best)
