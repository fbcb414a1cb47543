"""Forecasts time series such as load, weather, sales or prices, with calibrated intervals and naive baselines.

    python examples/forecast.py                                                      # a synthetic electricity load
    python examples/forecast.py --data sales.csv --horizon 7 --ahead next_week.csv --set history=28
    python examples/forecast.py --data vic_elec.csv.gz --target Demand --horizon 48 --set future=Temperature,Holiday \\
        history=96 seasons=48,336 split=32160,2928,17520
    python examples/forecast.py --data ETTh1.csv --target OT --set seasons=24 split=8640,2880,2880 relative=true \\
        direct=true calendar=hour

A CSV file has a column of dates, evenly spaced and ascending, and columns of numbers. The model corrects the naive
forecast that is best on the validation part; with relative=true it forecasts the difference from the last value, so
that it generalizes to other levels (Zeng et al. 2023, arXiv:2205.13504). Its 80 % interval is calibrated on the newest
forecasts with a known outcome (conformalized quantile regression, Romano et al. 2019). The forecast after the last row
is printed, plotted and written to --ahead, unless the model reads columns known for the future.

The model that --save keeps, from Python in the folder examples:

    import forecast
    model = forecast.load("runs/load")
    print(forecast.forecast_next(model))  # of its own data, or forecast_next(model, "sales.csv")
"""

import argparse
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import pandas as pd
from common import results, saved, series
from common.forecast_report import plot_report, print_scores, report_upcoming
from common.forecasting import check_settings, evaluate, forecast_table, note_settings, predict_quantiles
from common.options import Count, Positive, Rate, new_parser, parse, whole
from common.windows import PartSizes, Problem, WholeNumbers, Windows, make_problem

from lstm_jax import training
from lstm_jax.models import forecaster
from lstm_jax.training import metrics

QUANTILES = 0.1, 0.5, 0.9


class Settings(NamedTuple):
    """Settings of the data, the model and its training; --set NAME=VALUE changes one."""

    date: str | None = None  # column of dates, or several: year,month,day,hour; None means the first
    inputs: str | None = None  # columns known for the past only: A,B
    future: str | None = None  # columns known for the future as well, such as holidays: A,B
    calendar: str = "hour,weekday,year"  # cycles of the calendar to encode
    fill: float | None = None  # value of cells that are not numbers; None makes them an error
    gaps: bool = False  # whether the steps between dates may differ
    history: Count = 72  # past steps per window
    seasons: WholeNumbers | None = None  # lags of naive forecasts; None means a day, a week or a year by the dates
    split: PartSizes = [0.6, 0.2, 0.2]  # noqa: RUF012  training, validation, test: rows or shares
    relative: bool = False  # whether to forecast differences from the last value
    log: bool = False  # whether to forecast the logarithm
    direct: bool = False  # whether the last output gives all steps, without a decoder
    measure: Literal["scaled MSE", "RMSE", "MAE", "MAPE"] = "RMSE"  # score of the naive forecasts in the record
    hidden: Count = 64
    dropout: Rate = 0.1
    learning_rate: Positive = 2e-3
    batch_size: Count = 64
    epochs: Count = 15
    patience: Count = 4
    steps: Count | None = None  # in place of epochs
    minutes: Positive | None = None


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, help="CSV file (default: a synthetic load)")
    parser.add_argument("--target", help="column to forecast (default: the only one)")
    parser.add_argument("--horizon", type=whole, default=24, help="steps to forecast (%(default)s)")
    parser.add_argument("--ahead", type=Path, help="CSV file to write the forecast after the last row to")
    options = parse(parser, arguments, __file__, Settings, smoke={"steps": 3, "hidden": 8})
    if options.ahead and (options.future or not options.data):
        parser.error("--ahead: want --data, and no columns of the future, since the file does not hold their future")
    return options


def make_loss(rate: float) -> Any:
    """Makes the pinball loss over all quantiles and steps, with a dropout rate."""

    @training.stateless
    def loss(params: forecaster.ForecasterParams, batch: Windows, key: Any) -> tuple[jax.Array, dict[str, Any]]:
        """Computes the loss of a batch and its metrics."""
        predicted = predict_quantiles(params, batch, key, rate)
        pinball = metrics.pinball(predicted, jnp.asarray(batch.target).T, jnp.array(QUANTILES, predicted.dtype))
        return pinball.value(), {"loss": pinball}

    return loss


def train(problem: Problem, options: argparse.Namespace) -> saved.Model:
    """Trains and returns the best model on the validation part."""
    data, keys = problem.train, jax.random.split(jax.random.key(options.seed))
    sizes = {"input_size": data.past.shape[-1], "future_size": data.future.shape[-1], "hidden_size": options.hidden}
    sizes |= {"horizon": options.horizon, "num_quantiles": len(QUANTILES), "use_decoder": not options.direct}
    batches = training.Shuffled(data, options.batch_size, seed=options.seed)
    valid_batches = training.Shuffled(problem.valid, 512, shuffle=False)
    result = training.fit(
        make_loss(options.dropout),
        forecaster.init_forecaster(keys[0], **sizes),
        batches,
        training.adam(options.learning_rate),
        steps=options.steps or options.epochs * len(batches),
        key=keys[1],
        minutes=options.minutes,
        validation=training.Validation(valid_batches, len(batches), patience=options.patience),
    )
    return saved.Model(result.params, {"sizes": sizes})


def load(folder: str | Path) -> saved.Model:
    """Loads a model that --save wrote."""
    return saved.load(folder, "forecast", forecaster.init_forecaster)


def forecast_next(model: saved.Model, path: str | Path | None = None) -> pd.DataFrame:
    """Forecasts the steps after the last row of a file; None is the file that the model was trained on."""
    return forecast_table(model, series.read_series(path or model.notes["data"], model.notes["settings"]))


def main(arguments: list[str] | None = None) -> float:
    """Trains, forecasts, reports and plots; returns the RMSE on the test part."""
    options = parse_options(arguments)
    table = series.read_series(options.data, vars(options))
    options.target, usual_seasons = table.name, series.usual_seasons(table.dates)
    options.seasons = usual_seasons if options.seasons is None else options.seasons
    problem = make_problem(table, vars(options))
    print(f"{len(problem.train.level):,} training windows, {len(problem.test.level):,} test windows")
    with results.Timer() as timer:
        model = load(options.load) if options.load else train(problem, options)
    check_settings(model, vars(options))
    evaluation = evaluate(model.params, problem, options.log)
    model = note_settings(model, vars(options), problem, evaluation)
    saved.save(options.save, options.example, model)
    print_scores(evaluation.scores, evaluation.coverage, problem.naive_name)
    upcoming = forecast_next(model, options.data) if options.data and not options.future else None
    report_upcoming(upcoming, table.name, options.ahead)
    plot_report(table, problem.split.test, options.history, evaluation, upcoming, options.picture)
    naive = {name: row[options.measure] for name, row in evaluation.scores.items() if name != "LSTM"}
    measured = {**evaluation.scores["LSTM"], results.COVERAGE: evaluation.coverage[1]}
    results.record(options, params=model.params, seconds=timer.seconds, measured=measured, naive=naive)
    return measured["RMSE"]


if __name__ == "__main__":
    main()
