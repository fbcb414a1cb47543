"""Scores, compares, prints and draws forecasts."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.series import Table

MAX_PRINTED_ROWS = 12
MAX_PLOTTED_FORECASTS = 60
"""of one step each"""


def point_scores(forecast: np.ndarray, target: np.ndarray, scaled_error: np.ndarray) -> dict[str, float]:
    """Scores forecasts ``[N, K]`` in the series' own unit, and by their error ``[N, K]`` in scaled units."""
    share = np.abs(forecast - target) / np.abs(target) if (target != 0).all() else np.full(1, np.nan)
    return {
        "scaled MSE": float(np.mean(scaled_error**2)),
        "RMSE": float(np.sqrt(np.mean((forecast - target) ** 2))),
        "MAE": float(np.mean(np.abs(forecast - target))),
        "MAPE": float(share.mean()),
    }


class Evaluation(NamedTuple):
    """What a model's forecasts of the test part are worth."""

    scores: dict[str, dict[str, float]]
    """of the LSTM and of each naive forecast, by measure"""
    coverage: tuple[float, float]
    """the share of outcomes inside the intervals, before and after calibration"""
    target: np.ndarray
    """``[N, K]``, in its own unit"""
    quantiles: np.ndarray
    """``[N, K, Q]``, calibrated, in the target's unit"""
    margin: np.ndarray
    """``[K]``, scaled, by which an interval after the last row is widened"""


def print_scores(scores: dict[str, dict[str, float]], coverage: tuple[float, float], corrected: str) -> None:
    """Prints the naive forecast that is corrected, all scores, coverage, and whether the best naive one is beaten."""
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
    """Prints what is forecast after the last row, if it is, as far as it fits, and writes it to a CSV file."""
    if upcoming is None:
        return
    print(f"after the last row, {name}, with the 80 % interval:")
    shown = upcoming.head(MAX_PRINTED_ROWS).to_string(float_format="{:.4g}".format)
    print(shown + "\n  ..." * (len(upcoming) > MAX_PRINTED_ROWS))
    if path:
        upcoming.to_csv(path, float_format="%.6g")


class Panel(NamedTuple):
    """One forecast to draw."""

    title: str
    dates: pd.DatetimeIndex
    """``[T + K]``"""
    past: np.ndarray
    """``[T]``"""
    quantiles: np.ndarray
    """``[K, 3]``: low, median, high"""
    target: np.ndarray | None
    """``[K]``, or None where the outcome is unknown"""


def test_panel(table: Table, starts: np.ndarray, history: int, target: np.ndarray, quantiles: np.ndarray) -> Panel:
    """Chooses the middle of the test part, from targets ``[N, K]`` and quantiles ``[N, K, 3]`` in their own unit.

    It shows all steps from one start, or, where forecasts have one step, those of successive starts.
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
    """Shows what is forecast after the last row."""
    dates = table.local_dates[-history:].append(pd.DatetimeIndex(upcoming.index))
    return Panel("after the last row", dates, table.target[-history:], upcoming.to_numpy(), None)


def plot_report(
    table: Table, starts: np.ndarray, history: int, evaluation: Evaluation, upcoming: pd.DataFrame | None, path: Path
) -> None:
    """Draws the middle of the test part and, where there is one, the forecast after the last row."""
    panels = [test_panel(table, starts, history, evaluation.target, evaluation.quantiles)]
    if upcoming is not None:
        panels.append(upcoming_panel(table, history, upcoming))
    plot_forecasts(panels, table.name, path)


def plot_forecasts(panels: list[Panel], name: str, path: Path) -> None:
    """Draws forecasts one below the other, each with its past, its interval and its outcome."""
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
