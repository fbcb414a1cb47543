"""Runs a forecaster on windows, calibrates its intervals, scores it, and forecasts the rows after a file's last."""

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
"""settings that a model's inputs depend on"""
COLUMNS = ["low", "median", "high"]
"""of a forecast, the quantiles"""


def predict_quantiles(params: Any, batch: windows.Windows, key: Any = None, rate: float = 0.0) -> jax.Array:
    """Returns scaled quantiles ``[K, B, Q]`` of targets less their level."""
    past, future = jnp.swapaxes(batch.past, 0, 1), jnp.swapaxes(batch.future, 0, 1)
    return forecaster.forecast(params, past, future, jnp.asarray(batch.naive).T, key=key, dropout_rate=rate)


def predict(params: Any, data: windows.Windows) -> np.ndarray:
    """Returns scaled quantiles ``[N, K, Q]``, the level added."""
    run, batches = jax.jit(predict_quantiles), training.Shuffled(data, PREDICT_BATCH_SIZE, shuffle=False)
    quantiles = [np.swapaxes(run(params, batches[number]), 0, 1) for number in range(len(batches))]
    return np.concatenate(quantiles) + data.level[..., None]


def evaluate(params: Any, problem: windows.Problem, log: bool) -> Evaluation:
    """Forecasts the test part and calibrates its intervals by the forecasts before."""
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
    """Checks that a loaded model was trained with the settings that its inputs depend on."""
    for name, value in model.notes.get("settings", {}).items():
        if name in INPUT_SETTINGS and value != settings[name]:
            raise SystemExit(f"--load: got a model with {name} {value}, want the same, not {settings[name]}")


def note_settings(
    model: saved.Model, settings: Mapping[str, Any], problem: windows.Problem, evaluation: Evaluation
) -> saved.Model:
    """Returns the model with the notes that ``forecast_table`` needs."""
    notes = {
        "settings": {
            name: settings[name] for name in dict.fromkeys((*series.READ_SETTINGS, *INPUT_SETTINGS, "seasons"))
        },
        "scalers": {name: [part.tolist() for part in scaler] for name, scaler in problem.scalers.items()},
        "naive": problem.naive_name,
        "margin": evaluation.margin.tolist(),
    }
    return model._replace(notes={**model.notes, **notes})


def forecast_table(model: saved.Model, table: series.Table) -> pd.DataFrame:
    """Forecasts the rows after a table's last: low, median and high by date, in the target's unit.

    A model that reads columns known for the future cannot: it forecasts the table's last rows.

    Args:
        model: with the notes ``settings``, ``scalers``, ``naive`` and ``margin``.
        table: the series, as in training.
    Returns:
        The forecasts, one row a step.
    """
    settings, horizon = model.notes["settings"], model.notes["sizes"]["horizon"]
    scalers = {name: training.Scaler(*map(np.array, parts)) for name, parts in model.notes["scalers"].items()}
    if (
        model.notes["sizes"]["future_size"]
        == series.calendar_features(table.local_dates, settings["calendar"]).shape[1]
    ):
        table = series.extend(table, horizon, settings["calendar"])
    start = np.array([len(table.target) - horizon])
    scaled = windows.scale_table(table, scalers, settings["log"])
    data = windows.make_windows(scaled, start, settings["history"], horizon, settings["relative"])
    naive = windows.naive_forecasts(scaled.target, start, horizon, settings["seasons"])[model.notes["naive"]]
    quantiles = predict(model.params, data._replace(naive=naive - data.level))[0]
    wide = intervals.widen(quantiles, np.array(model.notes["margin"], quantiles.dtype))
    dates = table.local_dates[start[0] :].rename("date")
    return pd.DataFrame(windows.unscale_target(wide, scalers, settings["log"]), dates, COLUMNS)
