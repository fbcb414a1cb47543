"""CSV files of measurements into series, and series into windows to forecast from.

What cannot serve is told by option, file, column and row.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lstm_jax import training


class Table(NamedTuple):
    """A file's series, one row a step."""

    dates: pd.DatetimeIndex
    clock: pd.DatetimeIndex
    """what the clock on the wall showed"""
    target: np.ndarray
    """``[N]``"""
    past: np.ndarray
    """``[N, D - 1]``, what is known of the past alone"""
    known: np.ndarray
    """``[N, F]``, what is known of the future too: columns of --known, hour, weekday, season"""


def read_table(options: argparse.Namespace) -> Table:
    """The file's columns; SystemExit with a message if they cannot serve."""
    path = options.data
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise SystemExit(f"--data: {path} is no CSV file that can be read: {error}") from None
    date, known, inputs = (name.split(",") if name else [] for name in (options.date, options.known, options.inputs))
    date = date or [frame.columns[0]]
    if len(frame.columns) < 2:
        hint = "; commas between them, not semicolons" * (";" in frame.columns[0])
        raise SystemExit(f"--data: {path} has the columns {list(frame.columns)}, want dates and numbers{hint}")
    others = [name for name in frame.columns if name not in (*date, *known, *inputs)]
    if options.target is None and len(others) != 1:
        raise SystemExit(f"--target: got none, want one of the columns of {path}: {others}")
    options.target = options.target or others[0]
    for option, names in {"date": date, "target": [options.target], "known": known, "inputs": inputs}.items():
        if missing := [name for name in names if name not in frame]:
            raise SystemExit(f"--{option}: {path} has the columns {list(frame.columns)}, not {missing}")
    try:
        dates, clock = read_dates(frame[date[0]] if len(date) == 1 else frame[date])
    except ValueError as error:
        raise SystemExit(
            f"--date: {path}: column {date} holds no dates such as 2024-01-31 15:00: {_first(error)}"
        ) from None
    check_dates(path, dates, options.gaps)
    numbers = {name: column(path, frame[name], options.fill) for name in (options.target, *inputs, *known)}
    past, future = (
        np.column_stack([np.zeros((len(frame), 0)), *(numbers[name] for name in names)]) for names in (inputs, known)
    )
    return Table(
        dates, clock, numbers[options.target], past, np.column_stack([future, calendar(clock, options.calendar)])
    )


def read_dates(text: pd.Series | pd.DataFrame) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """Dates, and what the clock on the wall showed: load follows the clock, whatever its offset from UTC."""
    dates = pd.DatetimeIndex(_to_dates(text, utc=True))
    if isinstance(text, pd.DataFrame):
        return dates, dates
    wall = text.astype(str).str.replace(r"(?<=:\d\d)(Z|[+-]\d\d:?\d\d)$", "", regex=True)
    return dates, pd.DatetimeIndex(_to_dates(wall))


def _to_dates(text: pd.Series | pd.DataFrame, utc: bool = False) -> pd.Series:
    """Dates like 2024-01-31, 2024-01 or 2024-01-31 15:00:00+01:00; or columns year, month, day, hour."""
    return pd.to_datetime(text, utc=utc, **({} if isinstance(text, pd.DataFrame) else {"format": "ISO8601"}))


def check_dates(path: Path, dates: pd.DatetimeIndex, gaps: bool) -> None:
    """Dates ascend, and no step is much longer than most."""
    steps = np.diff(dates.to_numpy()).astype("timedelta64[s]").astype(float)
    if len(steps) and steps.min() <= 0:
        row = int(np.argmax(steps <= 0)) + 1
        wrong = "is there twice" if steps.min() == 0 else f"comes after {dates[row - 1]}"
        raise SystemExit(
            f"--data: {path}: {dates[row]} in row {row + 2} {wrong}, want dates ascending, each once: sort the file"
        )
    if len(steps) and not gaps and steps.max() > 1.5 * np.median(steps):
        row = int(np.argmax(steps > 1.5 * np.median(steps))) + 1
        raise SystemExit(
            f"--data: {path}: a gap from {dates[row - 1]} to {dates[row]} in row {row + 2}, want even steps; fill it "
            "up, or say --gaps if the steps in between do not exist, such as days without trade"
        )


def column(path: Path, series: pd.Series, fill: float | None) -> np.ndarray:
    """A column as numbers."""
    found = pd.to_numeric(series.astype(object).replace({True: 1, False: 0, "TRUE": 1, "FALSE": 0}), errors="coerce")
    numbers = found.to_numpy(float)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad) and fill is None:
        raise SystemExit(
            f"--data: {path}: column {series.name} has {len(bad)} cell{'s' * (len(bad) > 1)} without a number, the "
            f"first '{series.iloc[bad[0]]}' in row {bad[0] + 2}; write numbers there, or say --fill 0 if they mean 0"
        )
    return np.where(np.isfinite(numbers), numbers, fill or 0.0)


def _first(error: Exception) -> str:
    """What pandas found, without its advice to programmers."""
    return str(error).split(". You might")[0].splitlines()[0]


def days_apart(dates: pd.DatetimeIndex) -> float:
    """Days between most dates."""
    return float(np.median(np.diff(dates.to_numpy()).astype("timedelta64[s]").astype(float))) / 86400


def usual_seasons(dates: pd.DatetimeIndex) -> list[int]:
    """The steps of a day and of a week, or of a week, or of a year, by how far apart the dates are."""
    apart = days_apart(dates)
    if apart < 1:
        return [round(1 / apart), round(7 / apart)]
    return [7] if apart < 7 else [round(365.25 / apart)] if apart < 365 else []


def extend(table: Table, steps: int, cycles: str) -> Table:
    """The table with rows that are still to come: dates go on as they did and the calendar with them, the last row's
    other values are repeated."""
    apart = days_apart(table.dates)
    months = apart >= 28 and len(set(table.clock.day)) == 1
    spacing = pd.DateOffset(months=round(apart / 30.44)) if months else pd.Timedelta(days=apart)
    clock, dates = (
        one.append(pd.date_range(one[-1], periods=steps + 1, freq=spacing)[1:]) for one in (table.clock, table.dates)
    )
    target, past = (np.concatenate([one, np.repeat(one[-1:], steps, axis=0)]) for one in (table.target, table.past))
    return Table(dates, clock, target, past, calendar(clock, cycles))


CALENDAR = "hour", "weekday", "year"


def calendar(dates: pd.DatetimeIndex, cycles: str = ",".join(CALENDAR)) -> np.ndarray:
    """Sine and cosine of the hour, the weekday and the day of the year, as far as they vary and are asked for."""
    turns = {
        "hour": (dates.hour + dates.minute / 60) / 24,
        "weekday": dates.day_of_week / 7,
        "year": dates.day_of_year / 365.25,
    }
    asked = [name for name in cycles.split(",") if name]
    unknown = [name for name in asked if name not in CALENDAR]
    if unknown:
        raise SystemExit(f"--calendar: got {unknown[0]!r}, want some of {','.join(CALENDAR)}")
    found = [2 * np.pi * np.asarray(turns[name]) for name in asked if np.ptp(np.asarray(turns[name]))]
    return np.column_stack([np.zeros((len(dates), 0)), *(wave(turn) for turn in found for wave in (np.sin, np.cos))])


def scaled(table: Table, rows: int, log: bool) -> tuple[Table, Callable[[np.ndarray], np.ndarray]]:
    """Every series with the mean 0 and deviation 1 of the first rows, the target's logarithm if asked for; and what
    brings the target's numbers back into its own unit."""
    table = table._replace(target=np.log(table.target) if log else table.target)
    columns = {name: getattr(table, name) for name in ("target", "past", "known")}
    scales = {name: training.fit_scaler(values[:rows]) for name, values in columns.items()}
    undo = scales["target"].inverse
    small = table._replace(**{name: scales[name].transform(values) for name, values in columns.items()})
    return small, lambda values: np.exp(undo(values)) if log else undo(values)


class Parts(NamedTuple):
    """First steps forecast: of training, validation and test."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def cut(table: Table, options: argparse.Namespace) -> Parts:
    """Places where a forecast starts, so that all that is forecast lies in the part; the past may lie before it."""
    counts = [int(size * len(table.target)) if size < 1 else int(size) for size in options.parts]
    reach = max(options.history, *options.seasons)
    if len(counts) != 3 or sum(counts) > len(table.target) or min(counts) < options.horizon:
        raise SystemExit(
            f"--parts: got {options.parts} of {len(table.target)} rows, want three sizes that fit, rows or shares "
            f"below 1, each at least --horizon {options.horizon}"
        )
    ends = np.cumsum(counts)
    begins = [reach, ends[0], ends[1]]
    if ends[0] - reach < options.horizon:
        raise SystemExit(
            f"--history, --seasons: got {reach} steps back, want fewer than the {ends[0]} rows of training"
        )
    return Parts(*(np.arange(begin, end - options.horizon + 1) for begin, end in zip(begins, ends, strict=True)))


class Windows(NamedTuple):
    """Every place of a part to forecast from, N of them, scaled."""

    past: np.ndarray
    """``[N, T, D]``"""
    future: np.ndarray
    """``[N, K, F]``"""
    naive: np.ndarray
    """``[N, K]``, what the model corrects"""
    target: np.ndarray
    """``[N, K]``"""
    level: np.ndarray
    """``[N, 1]``, what was taken from the target throughout: its last value, or 0"""


def windows(table: Table, starts: np.ndarray, options: argparse.Namespace) -> Windows:
    """What lies before and behind these places; the naive forecast is still to come."""
    every = np.column_stack([table.target, table.past, table.known])
    past = np.lib.stride_tricks.sliding_window_view(every, options.history, axis=0)[starts - options.history]
    future = np.lib.stride_tricks.sliding_window_view(table.known, options.horizon, axis=0)[starts]
    target = np.lib.stride_tricks.sliding_window_view(table.target, options.horizon)[starts]
    level = table.target[starts - 1][:, None] * options.relative
    past = past.swapaxes(1, 2).copy()
    past[..., 0] -= level
    return Windows(past, future.swapaxes(1, 2), np.zeros_like(target), target - level, level)


def naive_forecasts(target: np.ndarray, starts: np.ndarray, horizon: int, seasons: list[int]) -> dict[str, np.ndarray]:
    """``[N, K]`` of each: the last value, and the value of a season ago."""
    ahead = np.arange(horizon)
    found = {"last value": np.repeat(target[starts - 1][:, None], horizon, axis=1)}
    for season in seasons:
        back = season * -(-(ahead + 1) // season)  # the newest such value that is known at the start
        found[f"{season} steps ago"] = target[starts[:, None] + ahead - back]
    return found
