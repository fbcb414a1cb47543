"""Scores, prints and plots forecasts beside naive ones."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.series import Table

MAX_PRINTED_ROWS = 12
MAX_PLOTTED_FORECASTS = 60
"""forecasts in the plot where each has one step"""


def point_scores(forecast: np.ndarray, target: np.ndarray, scaled_error: np.ndarray) -> dict[str, float]:
    """Computes scaled MSE, RMSE, MAE and MAPE of point forecasts.

    Args:
        forecast: forecasts in the unit of the series, ``[N, K]``.
        target: outcomes in the same unit, ``[N, K]``.
        scaled_error: forecast minus outcome of the scaled series, ``[N, K]``.
    Returns:
        The scores by name; MAPE is NaN where an outcome is 0.
    """
    relative_error = np.abs(forecast - target) / np.abs(target) if (target != 0).all() else np.full(1, np.nan)
    return {
        "scaled MSE": float(np.mean(scaled_error**2)),
        "RMSE": float(np.sqrt(np.mean((forecast - target) ** 2))),
        "MAE": float(np.mean(np.abs(forecast - target))),
        "MAPE": float(relative_error.mean()),
    }


class Evaluation(NamedTuple):
    """Scores and calibrated intervals of N forecasts of K steps of the test part."""

    scores: dict[str, dict[str, float]]
    """scores of the LSTM and of each naive forecast, by measure"""
    coverage: tuple[float, float]
    """share of outcomes inside the intervals, before and after calibration"""
    target: np.ndarray
    """outcomes in the unit of the series, ``[N, K]``"""
    quantiles: np.ndarray
    """calibrated quantiles in the unit of the series, ``[N, K, Q]``"""
    margin: np.ndarray
    """scaled margin that widens a forecast after the last row, ``[K]``"""


def print_scores(scores: dict[str, dict[str, float]], coverage: tuple[float, float], corrected: str) -> None:
    """Prints scores and coverage, and compares the LSTM with the naive forecast of smallest RMSE.

    Args:
        scores: scores of "LSTM" and of each naive forecast, by measure.
        coverage: share of outcomes inside the intervals, before and after calibration.
        corrected: name of the naive forecast that the model corrects.
    """
    print(f"corrects: {corrected}")
    for name, row in scores.items():
        print(f"  {name:18} " + "  ".join(f"{measure} {value:.4g}" for measure, value in row.items()))
    raw, calibrated = coverage
    print(f"80 % interval: {raw:.1%} of the test values inside, {calibrated:.1%} once calibrated")
    best = min((name for name in scores if name != "LSTM"), key=lambda name: scores[name]["RMSE"])
    model, naive = scores["LSTM"]["RMSE"], scores[best]["RMSE"]
    ratio = 1.0 if model == naive else model / max(naive, 1e-30)
    verdict = "equals" if abs(ratio - 1) < 0.005 else "beats" if ratio < 1 else "does not beat"
    print(f"The LSTM {verdict} the best naive forecast, {best}: RMSE {ratio:.2f} of its")


def report_upcoming(upcoming: pd.DataFrame | None, name: str, path: Path | None) -> None:
    """Prints the forecast after the last row and writes it to a CSV file.

    Args:
        upcoming: the forecast, a row per step; None prints nothing.
        name: the name of the series.
        path: the CSV file to write; None writes none.
    """
    if upcoming is None:
        return
    print(f"after the last row, {name}, with the 80 % interval:")
    shown = upcoming.head(MAX_PRINTED_ROWS).to_string(float_format="{:.4g}".format)
    print(shown + "\n  ..." * (len(upcoming) > MAX_PRINTED_ROWS))
    if path:
        upcoming.to_csv(path, float_format="%.6g")


class Panel(NamedTuple):
    """The content of one plot: T past values, a forecast of K steps and its outcome."""

    title: str
    dates: pd.DatetimeIndex
    """``[T + K]``"""
    past: np.ndarray
    """``[T]``"""
    quantiles: np.ndarray
    """low, median and high, ``[K, 3]``"""
    target: np.ndarray | None
    """outcomes ``[K]``; None where they are unknown"""


def test_panel(table: Table, starts: np.ndarray, history: int, target: np.ndarray, quantiles: np.ndarray) -> Panel:
    """Makes the panel of the forecast in the middle of the test part; forecasts of one step are joined.

    Args:
        table: the series.
        starts: the first row of each forecast, ``[N]``.
        history: past steps to show.
        target: outcomes, ``[N, K]``.
        quantiles: low, median and high, ``[N, K, 3]``.
    """
    middle = len(target) // 2
    if target.shape[1] == 1:
        rows = slice(middle, middle + MAX_PLOTTED_FORECASTS)
        target, quantiles = target[rows, 0], quantiles[rows, 0]
    else:
        target, quantiles = target[middle], quantiles[middle]
    start = int(starts[middle])
    dates = table.local_dates[start - history : start + len(target)]
    return Panel("in the middle of the test part", dates, table.target[start - history : start], quantiles, target)


def upcoming_panel(table: Table, history: int, upcoming: pd.DataFrame) -> Panel:
    """Makes the panel of the forecast after the last row.

    Args:
        table: the series.
        history: past steps to show.
        upcoming: the columns low, median and high, a row per step.
    """
    dates = table.local_dates[-history:].append(pd.DatetimeIndex(upcoming.index))
    return Panel("after the last row", dates, table.target[-history:], upcoming.to_numpy(), None)


def plot_report(
    table: Table, starts: np.ndarray, history: int, evaluation: Evaluation, upcoming: pd.DataFrame | None, path: Path
) -> None:
    """Plots the middle of the test part and the forecast after the last row.

    Args:
        table: the series.
        starts: the first row of each forecast of the test part, ``[N]``.
        history: past steps to show.
        evaluation: the forecasts of the test part.
        upcoming: the forecast after the last row; None leaves it out.
        path: the image file to write.
    """
    panels = [test_panel(table, starts, history, evaluation.target, evaluation.quantiles)]
    if upcoming is not None:
        panels.append(upcoming_panel(table, history, upcoming))
    plot_forecasts(panels, table.name, path)


def plot_forecasts(panels: list[Panel], name: str, path: Path) -> None:
    """Plots panels one below the other, each with past, forecast, interval and outcome.

    Args:
        panels: the forecasts, one or two.
        name: the name of the series.
        path: the image file to write.
    """
    from matplotlib.dates import ConciseDateFormatter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6 if len(panels) == 1 else 6), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        before, ahead = panel.dates[: len(panel.past)], panel.dates[len(panel.past) :]
        low, median, high = panel.quantiles.T
        if panel.target is not None:
            axes.plot(ahead, panel.target, color="black", label="outcome")
        axes.plot(before, panel.past, color="0.5", label="past")
        axes.plot(ahead, median, ".-" if len(ahead) == 1 else "-", color="tab:blue", label="forecast, median")
        axes.fill_between(ahead, low, high, color="tab:blue", alpha=0.25, label="80 % interval")
        axes.set(ylabel=name, title=panel.title)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
        axes.grid(alpha=0.3)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=120)
