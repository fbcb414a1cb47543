"""Forecasts windows with a model, calibrates and scores the forecasts, and forecasts after the last row of a table."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from common import intervals, saved, series, windows
from common.forecast_report import Evaluation, point_scores
from lstm_jax import training
from lstm_jax.models import forecaster

PREDICT_BATCH_SIZE = 512
INPUT_SETTINGS = "target", "inputs", "future", "calendar", "relative", "log", "history", "horizon"
"""settings that determine a model's inputs"""
COLUMNS = ["low", "median", "high"]
"""names of a forecast's quantiles"""


def predict_quantiles(params: Any, batch: windows.Windows, key: Any = None, rate: float = 0.0) -> jax.Array:
    """Forecasts the scaled quantiles of a batch of windows, without their level.

    Args:
        params: parameters of the forecaster.
        batch: B windows of K steps.
        key: key for dropout; None disables dropout.
        rate: dropout rate.
    Returns:
        Quantiles ``[K, B, Q]``.
    """
    past, future = jnp.swapaxes(batch.past, 0, 1), jnp.swapaxes(batch.future, 0, 1)
    return forecaster.forecast(params, past, future, jnp.asarray(batch.naive).T, key=key, dropout_rate=rate)


def predict(params: Any, data: windows.Windows) -> np.ndarray:
    """Forecasts the scaled quantiles ``[N, K, Q]`` of N windows, with their level."""
    predict_batch = jax.jit(predict_quantiles)
    batches = training.Shuffled(data, PREDICT_BATCH_SIZE, shuffle=False)
    quantiles = [np.swapaxes(predict_batch(params, batches[number]), 0, 1) for number in range(len(batches))]
    return np.concatenate(quantiles) + data.level[..., None]


def evaluate(params: Any, problem: windows.Problem, log: bool) -> Evaluation:
    """Forecasts the test part, calibrates its intervals by preceding forecasts, and scores it.

    Args:
        params: parameters of the forecaster.
        problem: the windows.
        log: whether the logarithm of the target is forecast.
    """
    valid_target, target = (part.target + part.level for part in (problem.valid, problem.test))
    quantiles = predict(params, problem.test)
    valid_scores = intervals.conformity_scores(predict(params, problem.valid), valid_target)
    test_scores = intervals.conformity_scores(quantiles, target)
    wide = intervals.widen(quantiles, intervals.rolling_margins(valid_scores, test_scores))
    outcome = windows.unscale_target(target, problem.scalers, log)
    scores = {
        name: point_scores(windows.unscale_target(forecast, problem.scalers, log), outcome, forecast - target)
        for name, forecast in {"LSTM": quantiles[..., 1], **problem.naive}.items()
    }
    return Evaluation(
        scores,
        (intervals.coverage(quantiles, target), intervals.coverage(wide, target)),
        outcome,
        windows.unscale_target(wide, problem.scalers, log),
        intervals.latest_margin(np.concatenate([valid_scores, test_scores])),
    )


def check_settings(model: saved.Model, settings: Mapping[str, Any]) -> None:
    """Raises SystemExit unless a loaded model was trained with the same INPUT_SETTINGS."""
    for name, value in model.notes.get("settings", {}).items():
        if name in INPUT_SETTINGS and value != settings[name]:
            raise SystemExit(f"--load: got a model with {name} {value}, want the same, not {settings[name]}")


def note_settings(
    model: saved.Model, settings: Mapping[str, Any], problem: windows.Problem, evaluation: Evaluation
) -> saved.Model:
    """Adds the notes that ``forecast_table`` needs to a model.

    Args:
        model: the trained model.
        settings: settings by name, of which READ_SETTINGS, INPUT_SETTINGS, "seasons" and "data" are kept.
        problem: provides the scalers and the name of the naive forecast.
        evaluation: provides the margin of the interval.
    """
    notes = {
        "settings": {
            name: settings[name] for name in dict.fromkeys((*series.READ_SETTINGS, *INPUT_SETTINGS, "seasons"))
        },
        "data": str(settings["data"].resolve()) if settings["data"] else None,
        "scalers": {name: [part.tolist() for part in scaler] for name, scaler in problem.scalers.items()},
        "naive": problem.naive_name,
        "margin": evaluation.margin.tolist(),
    }
    return model._replace(notes={**model.notes, **notes})


def forecast_table(model: saved.Model, table: series.Table) -> pd.DataFrame:
    """Forecasts the steps after the last row of a table.

    A model with columns known for the future forecasts the last rows of the table instead, since their future values
    are unknown.

    Args:
        model: a model with the notes that ``note_settings`` adds.
        table: the series, with the columns of training.
    Returns:
        Low, median and high in the target's unit, a row per step, indexed by date.
    """
    settings, horizon = model.notes["settings"], model.notes["sizes"]["horizon"]
    scalers = {name: training.Scaler(*map(np.array, parts)) for name, parts in model.notes["scalers"].items()}
    num_calendar_features = series.calendar_features(table.local_dates, settings["calendar"]).shape[1]
    if model.notes["sizes"]["future_size"] == num_calendar_features:
        table = series.extend(table, horizon, settings["calendar"])
    start = np.array([len(table.target) - horizon])
    scaled = windows.scale_table(table, scalers, settings["log"])
    data = windows.make_windows(scaled, start, settings["history"], horizon, settings["relative"])
    naive = windows.naive_forecasts(scaled.target, start, horizon, settings["seasons"])[model.notes["naive"]]
    quantiles = predict(model.params, data._replace(naive=naive - data.level))[0]
    wide = intervals.widen(quantiles, np.array(model.notes["margin"], quantiles.dtype))
    dates = table.local_dates[start[0] :].rename("date")
    return pd.DataFrame(windows.unscale_target(wide, scalers, settings["log"]), dates, COLUMNS)
