"""Reads CSV files of measurements into time series with calendar features.

Readers end the program with a message that names option, file, column and row where a file cannot be used.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

CALENDAR = "hour", "weekday", "year"
"""cycles that ``calendar_features`` can encode"""
READ_SETTINGS = "target", "date", "inputs", "future", "calendar", "fill", "gaps"
"""arguments of ``read_table``"""
SECONDS_PER_DAY = 86400


class Table(NamedTuple):
    """The series of a file, N rows of one time step each."""

    name: str
    """name of the target's column"""
    dates: pd.DatetimeIndex
    """dates in UTC"""
    local_dates: pd.DatetimeIndex
    """dates by the local clock"""
    target: np.ndarray
    """``[N]``"""
    past: np.ndarray
    """``[N, D - 1]``, series known for the past only"""
    future: np.ndarray
    """``[N, F]``, series known for the future as well: columns of the file, then calendar features"""


def read_series(path: str | Path | None, settings: Mapping[str, Any]) -> Table:
    """Reads a CSV file by a run's settings.

    Args:
        path: the file; None makes a synthetic load.
        settings: settings by name; those in READ_SETTINGS are the arguments of ``read_table``.
    """
    if path is None:
        return synthetic_load(calendar=settings["calendar"])
    return read_table(Path(path), **{name: settings[name] for name in READ_SETTINGS})


def read_table(
    path: Path,
    *,
    target: str | None = None,
    date: str | None = None,
    inputs: str | None = None,
    future: str | None = None,
    calendar: str = ",".join(CALENDAR),
    fill: float | None = None,
    gaps: bool = False,
) -> Table:
    """Reads columns of a CSV file as time series.

    Args:
        path: the file, plain or compressed.
        target: the column to forecast; None takes the only column without another use.
        date: the column of dates, or several, such as "year,month,day,hour"; None takes the first column.
        inputs: comma-separated columns that are known for the past only.
        future: comma-separated columns that are known for the future as well.
        calendar: comma-separated cycles to encode, of CALENDAR.
        fill: value of cells that are not numbers; None makes such a cell an error.
        gaps: whether the steps between dates may differ.
    Returns:
        The table.
    Raises:
        SystemExit: the file cannot be read, or a column, date or cell is not as described.
    """
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise SystemExit(f"--data: {path} is no CSV file that can be read: {error}") from None
    date_names, future_names, input_names = (name.split(",") if name else [] for name in (date, future, inputs))
    date_names = date_names or [frame.columns[0]]
    target = _choose_columns(path, frame, target, {"date": date_names, "future": future_names, "inputs": input_names})
    try:
        dates, local_dates = read_dates(frame[date_names[0]] if len(date_names) == 1 else frame[date_names])
    except ValueError as error:
        raise SystemExit(
            f"date: {path}: column {date_names} holds no dates such as 2024-01-31 15:00: {_first_sentence(error)}"
        ) from None
    check_dates(path, dates, gaps)
    columns = {name: to_numbers(path, frame[name], fill) for name in (target, *input_names, *future_names)}
    past_columns, future_columns = (
        np.column_stack([np.zeros((len(frame), 0)), *(columns[name] for name in names)])
        for names in (input_names, future_names)
    )
    future_columns = np.column_stack([future_columns, calendar_features(local_dates, calendar)])
    return Table(target, dates, local_dates, columns[target], past_columns, future_columns)


def _choose_columns(path: Path, frame: pd.DataFrame, target: str | None, columns: dict[str, list[str]]) -> str:
    """Checks that the columns of each setting exist, and returns the name of the target's column."""
    if len(frame.columns) < 2:
        hint = "; commas between them, not semicolons" * (";" in frame.columns[0])
        raise SystemExit(f"--data: {path} has the columns {list(frame.columns)}, want dates and numbers{hint}")
    unused = [name for name in frame.columns if not any(name in names for names in columns.values())]
    if target is None and len(unused) != 1:
        raise SystemExit(f"--target: got none, want one of the columns of {path}: {unused}")
    target = target or unused[0]
    for option, names in {"--target": [target], **columns}.items():
        if missing := [name for name in names if name not in frame]:
            raise SystemExit(f"{option}: {path} has the columns {list(frame.columns)}, not {missing}")
    return target


def read_dates(text: pd.Series | pd.DataFrame) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """Parses a column of dates.

    Args:
        text: dates such as 2024-01-31 15:00:00+01:00, ``[N]``, or columns year, month and so on, ``[N, 3]`` or more.
    Returns:
        (dates, local_dates): in UTC, and by the local clock, which demand follows.
    """
    dates = pd.DatetimeIndex(_to_dates(text, utc=True))
    if isinstance(text, pd.DataFrame):
        return dates, dates
    local = text.astype(str).str.replace(r"(?<=:\d\d)(Z|[+-]\d\d:?\d\d)$", "", regex=True)
    return dates, pd.DatetimeIndex(_to_dates(local))


def _to_dates(text: pd.Series | pd.DataFrame, utc: bool = False) -> pd.Series:
    """Parses text such as 2024-01-31, 2024-01 or 2024-01-31 15:00:00+01:00, or columns year, month, day, hour."""
    return pd.to_datetime(text, utc=utc, **({} if isinstance(text, pd.DataFrame) else {"format": "ISO8601"}))


def check_dates(path: Path, dates: pd.DatetimeIndex, gaps: bool) -> None:
    """Raises SystemExit unless the dates ascend in even steps.

    Args:
        path: the file that the message names.
        dates: the dates, ``[N]``.
        gaps: whether steps longer than 1.5 times the median are allowed.
    """
    steps = np.diff(dates.to_numpy()).astype("timedelta64[s]").astype(float)
    if len(steps) and steps.min() <= 0:
        row = int(np.argmax(steps <= 0)) + 1
        fault = "is there twice" if steps.min() == 0 else f"comes after {dates[row - 1]}"
        raise SystemExit(
            f"--data: {path}: {dates[row]} in row {row + 2} {fault}, want dates ascending, each once: sort the file"
        )
    if len(steps) and not gaps and steps.max() > 1.5 * np.median(steps):
        row = int(np.argmax(steps > 1.5 * np.median(steps))) + 1
        raise SystemExit(
            f"--data: {path}: a gap from {dates[row - 1]} to {dates[row]} in row {row + 2}, want even steps; fill it "
            "up, or allow gaps if the steps in between do not exist, such as days without trade"
        )


def to_numbers(path: Path, column: pd.Series, fill: float | None) -> np.ndarray:
    """Converts a column to floats ``[N]``; true and false become 1 and 0.

    Args:
        path: the file that the error message names.
        column: the column, ``[N]``.
        fill: value of cells that are not finite numbers; None makes such a cell an error.
    """
    without_flags = column.astype(object).replace({True: 1, False: 0, "TRUE": 1, "FALSE": 0})
    numbers = pd.to_numeric(without_flags, errors="coerce").to_numpy(float)
    invalid_rows = np.flatnonzero(~np.isfinite(numbers))
    if len(invalid_rows) and fill is None:
        count, first = len(invalid_rows), invalid_rows[0]
        raise SystemExit(
            f"--data: {path}: column {column.name} has {count} cell{'s' * (count > 1)} without a number, the "
            f"first '{column.iloc[first]}' in row {first + 2}; write numbers there, or set fill if they mean 0"
        )
    return np.where(np.isfinite(numbers), numbers, fill or 0.0)


def _first_sentence(error: Exception) -> str:
    """Returns the first sentence of a pandas error, without its advice to programmers."""
    return str(error).split(". You might")[0].splitlines()[0]


def days_between(dates: pd.DatetimeIndex) -> float:
    """Returns the median difference of successive dates in days."""
    return float(np.median(np.diff(dates.to_numpy()).astype("timedelta64[s]").astype(float))) / SECONDS_PER_DAY


def usual_seasons(dates: pd.DatetimeIndex) -> list[int]:
    """Returns the usual seasons in steps: a day and a week for dates within a day, a week for days, else a year."""
    days = days_between(dates)
    if days < 1:
        return [round(1 / days), round(7 / days)]
    return [7] if days < 7 else [round(365.25 / days)] if days < 365 else []


def extend(table: Table, steps: int, calendar: str) -> Table:
    """Appends future rows to a table; dates and calendar features continue, other values repeat the last row.

    Args:
        table: a table whose ``future`` has calendar features only.
        steps: number of rows to append.
        calendar: the calendar features of the table.
    """
    days = days_between(table.dates)
    monthly = days >= 28 and len(set(table.local_dates.day)) == 1
    spacing = pd.DateOffset(months=round(days / 30.44)) if monthly else pd.Timedelta(days=days)
    dates, local_dates = (
        index.append(pd.date_range(index[-1], periods=steps + 1, freq=spacing)[1:])
        for index in (table.dates, table.local_dates)
    )
    target, past = (
        np.concatenate([values, np.repeat(values[-1:], steps, axis=0)]) for values in (table.target, table.past)
    )
    return Table(table.name, dates, local_dates, target, past, calendar_features(local_dates, calendar))


def calendar_features(dates: pd.DatetimeIndex, calendar: str = ",".join(CALENDAR)) -> np.ndarray:
    """Encodes cycles of the calendar as sine and cosine.

    Args:
        dates: the dates, ``[N]``.
        calendar: comma-separated cycles, of CALENDAR; those that do not vary over the dates are left out.
    Returns:
        Features ``[N, F]``.
    """
    phases = {
        "hour": (dates.hour + dates.minute / 60) / 24,
        "weekday": dates.day_of_week / 7,
        "year": dates.day_of_year / 365.25,
    }
    names = [name for name in calendar.split(",") if name]
    if unknown := [name for name in names if name not in CALENDAR]:
        raise SystemExit(f"calendar: got {unknown[0]!r}, want some of {','.join(CALENDAR)}")
    angles = [2 * np.pi * np.asarray(phases[name]) for name in names if np.ptp(np.asarray(phases[name]))]
    return np.column_stack([np.zeros((len(dates), 0)), *(wave(angle) for angle in angles for wave in (np.sin, np.cos))])


def synthetic_load(num_hours: int = 3000, calendar: str = ",".join(CALENDAR)) -> Table:
    """Makes an hourly electricity load that depends on hour, weekday and temperature.

    Args:
        num_hours: number of rows.
        calendar: calendar features to add to the temperature, which is known for the future.
    """
    rng = np.random.default_rng(0)
    dates = pd.date_range("2024-01-01", periods=num_hours, freq="h")
    drift = np.convolve(rng.normal(size=num_hours + 71), np.ones(72) / 6, mode="valid")
    temperature = 12 + 6 * np.sin(2 * np.pi * (np.arange(num_hours) - 9) / 24) + drift
    load = 50 + 12 * np.sin(2 * np.pi * (dates.hour.to_numpy() - 8) / 24) - 8 * (dates.day_of_week.to_numpy() > 4)
    load = load + 0.05 * (temperature - 18) ** 2 + rng.normal(size=num_hours)
    future = np.column_stack([temperature, calendar_features(dates, calendar)])
    return Table("load", dates, dates, load, np.zeros((num_hours, 0)), future)
