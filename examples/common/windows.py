"""Splits and scales series, cuts them into windows, and computes naive forecasts."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

from common.series import Table
from lstm_jax import training


def whole_numbers(text: str) -> list[int]:
    """Parses comma-separated integers."""
    try:
        return [int(word) for word in text.split(",") if word]
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text}, want whole numbers with commas between") from None


def part_sizes(text: str) -> list[float]:
    """Parses the sizes of training, validation and test part: comma-separated rows, or shares below 1."""
    try:
        train, valid, test = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text}, want three numbers with commas between") from None
    return [train, valid, test]


WholeNumbers = Annotated[list[int], whole_numbers]
PartSizes = Annotated[list[float], part_sizes]


class Split(NamedTuple):
    """The rows at which the forecasts of each part start, ``[N]`` each."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


class Windows(NamedTuple):
    """N scaled windows: T past steps, K steps to forecast."""

    past: np.ndarray
    """``[N, T, D]``, the target in the first column"""
    future: np.ndarray
    """series known for the future, ``[N, K, F]``"""
    naive: np.ndarray
    """naive forecast that the model corrects, minus level, ``[N, K]``"""
    target: np.ndarray
    """outcomes minus level, ``[N, K]``"""
    level: np.ndarray
    """last value before the start, or 0, ``[N, 1]``; subtracted from past and future targets"""


def split_starts(num_rows: int, sizes: Sequence[float], history: int, horizon: int, seasons: Sequence[int]) -> Split:
    """Splits rows into parts that contain all steps of their forecasts; the past may lie in the preceding part.

    Args:
        num_rows: number of rows of the table.
        sizes: sizes of training, validation and test part: rows, or shares where below 1.
        history: past steps per window.
        horizon: steps per forecast.
        seasons: lags of the naive forecasts in steps.
    Returns:
        The rows at which the forecasts of each part start.
    Raises:
        SystemExit: the sizes exceed the table, a part is shorter than the horizon, or the training part is shorter than
            past and horizon.
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
        raise SystemExit(
            f"history, seasons: got {lookback} steps back, want at most {ends[0] - horizon} of the "
            f"{ends[0]} training rows, so that one forecast fits"
        )
    return Split(*(np.arange(begin, end - horizon + 1) for begin, end in zip(begins, ends, strict=True)))


def fit_scalers(table: Table, num_rows: int, log: bool) -> dict[str, training.Scaler]:
    """Fits scalers to the first rows of a table.

    Args:
        table: the series.
        num_rows: number of rows to fit.
        log: whether to scale the logarithm of the target.
    Returns:
        The scalers of "target", "past" and "future".
    """
    columns = _select_columns(table, log)
    return {name: training.fit_scaler(values[:num_rows]) for name, values in columns.items()}


def scale_table(table: Table, scalers: dict[str, training.Scaler], log: bool) -> Table:
    """Scales the series of a table.

    Args:
        table: the series.
        scalers: scalers that ``fit_scalers`` returned.
        log: whether to scale the logarithm of the target.
    """
    columns = {name: scalers[name].transform(values) for name, values in _select_columns(table, log).items()}
    return table._replace(target=columns["target"], past=columns["past"], future=columns["future"])


def unscale_target(target: np.ndarray, scalers: dict[str, training.Scaler], log: bool) -> np.ndarray:
    """Converts scaled targets of any shape to the unit of the series; the inverse of ``scale_table``."""
    values: np.ndarray = scalers["target"].inverse(target)
    return np.exp(values) if log else values


def _select_columns(table: Table, log: bool) -> dict[str, np.ndarray]:
    """Returns the series to scale; with ``log``, the logarithm of the target."""
    if log and table.target.min() <= 0:
        raise SystemExit(f"--set log: got a target of {table.target.min()}, want all above 0")
    return {"target": np.log(table.target) if log else table.target, "past": table.past, "future": table.future}


def make_windows(table: Table, starts: np.ndarray, history: int, horizon: int, relative: bool) -> Windows:
    """Cuts the windows of forecasts from a table.

    Args:
        table: a scaled table.
        starts: the first row of each forecast, ``[N]``.
        history: T, past steps per window.
        horizon: K, steps per forecast.
        relative: whether to subtract the last value before the start from targets.
    Returns:
        The windows; their naive forecast is 0.
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
    """Returns the forecasts of persistence and of seasonal persistence.

    Args:
        target: the series, ``[R]``.
        starts: the first row of each forecast, ``[N]``.
        horizon: K, steps per forecast.
        seasons: lags in steps; a forecast is the newest value of the same phase that is known at the start.
    Returns:
        Forecasts ``[N, K]`` by name.
    """
    steps = np.arange(horizon)
    forecasts = {"last value": np.repeat(target[starts - 1][:, None], horizon, axis=1)}
    for season in seasons:
        lags = season * -(-(steps + 1) // season)  # whole seasons back to a value before the start
        forecasts[f"{season} steps ago"] = target[starts[:, None] + steps - lags]
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
    """name of the naive forecast that the model corrects"""


def make_problem(table: Table, settings: Mapping[str, Any]) -> Problem:
    """Splits and scales a table and cuts it into windows.

    Args:
        table: the series in their own units.
        settings: ``split``, sizes of the parts; ``history`` and ``horizon``, past and forecast steps per window;
            ``seasons``, lags of the naive forecasts; ``relative``, whether to subtract the last known value from
            targets; ``log``, whether to forecast the target's logarithm.
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
