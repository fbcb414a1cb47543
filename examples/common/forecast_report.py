"""Scores, compares, prints and draws forecasts."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

MAX_PRINTED_ROWS = 12


def point_scores(forecast: np.ndarray, target: np.ndarray, scaled_error: np.ndarray) -> dict[str, float]:
    """Scores forecasts ``[N, K]`` in the series' own unit, and by their error ``[N, K]`` in scaled units."""
    share = np.abs(forecast - target) / np.abs(target) if (target != 0).all() else np.full(1, np.nan)
    return {
        "scaled MSE": float(np.mean(scaled_error**2)),
        "RMSE": float(np.sqrt(np.mean((forecast - target) ** 2))),
        "MAE": float(np.mean(np.abs(forecast - target))),
        "MAPE": float(share.mean()),
    }


def print_scores(scores: dict[str, dict[str, float]]) -> None:
    """Prints the scores of each forecast, and whether the LSTM beats the best naive one by RMSE."""
    for name, row in scores.items():
        print(f"  {name:18} " + "  ".join(f"{measure} {value:.4g}" for measure, value in row.items()))
    best = min((name for name in scores if name != "LSTM"), key=lambda name: scores[name]["RMSE"])
    model, naive = scores["LSTM"]["RMSE"], scores[best]["RMSE"]
    ratio = 1.0 if model == naive else model / max(naive, 1e-30)
    verdict = "equals" if abs(ratio - 1) < 0.005 else "beats" if ratio < 1 else "does not beat"
    print(f"The LSTM {verdict} the best naive forecast, {best}: RMSE {ratio:.2f} of its")


def report_upcoming(upcoming: pd.DataFrame, name: str, path: Path | None) -> None:
    """Prints the forecast of what follows the last row as far as it fits, and writes it to a CSV file if asked to."""
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
