"""CSV files of measurements into series; what cannot serve is told by option, file, column and row."""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd


class Table(NamedTuple):
    """A file's series, one row a step."""

    dates: pd.DatetimeIndex
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
    missing = [name for name in (*date, options.target, *known, *inputs) if name not in frame]
    if missing or len(frame.columns) < 2:
        raise SystemExit(
            f"--data: {path} has the columns {list(frame.columns)}, want {missing or 'dates and numbers'} too"
        )
    try:
        dates, clock = read_dates(frame[date[0]] if len(date) == 1 else frame[date])
    except ValueError as error:
        raise SystemExit(f"--date: {path}: column {date} holds no dates such as 2024-01-31 15:00: {error}") from None
    check_dates(path, dates, options.gaps)
    numbers = {name: column(path, frame[name], options.fill) for name in (options.target, *inputs, *known)}
    past, future = (
        np.column_stack([np.zeros((len(frame), 0)), *(numbers[name] for name in names)]) for names in (inputs, known)
    )
    return Table(dates, numbers[options.target], past, np.column_stack([future, calendar(clock, options.calendar)]))


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
        raise SystemExit(
            f"--data: {path}: {dates[row]} in row {row + 2} comes after {dates[row - 1]}, want dates ascending"
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
            f"--data: {path}: column {series.name} has {len(bad)} values that are no numbers, the first "
            f"'{series.iloc[bad[0]]}' in row {bad[0] + 2}; leave it out, or say --fill 0 to take 0 for them"
        )
    return np.where(np.isfinite(numbers), numbers, fill or 0.0)


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
