"""Forecasts measurements: load, weather, air quality, sales, prices; with an interval, and beside naive forecasts.

    python examples/forecast.py                                                      # a made-up electricity load
    python examples/forecast.py --data sales.csv --horizon 7 --history 28 --ahead next_week.csv
    python examples/forecast.py --data vic_elec.csv.gz --target Demand --known Temperature,Holiday \\
        --history 96 --horizon 48 --seasons 48,336 --parts 32160,2928,17520
    python examples/forecast.py --data ETTh1.csv --target OT --seasons 24 --parts 8640,2880,2880 --relative --direct \\
        --calendar hour

A CSV file, plain or packed, has a column of dates, evenly spaced and ascending, and columns of numbers. The model
corrects the naive forecast that is best on the validation part; with --relative it reads and forecasts the distance
from the last value, so that a level it has never seen is no matter (Zeng et al. 2023, arXiv:2205.13504). Its 80 %
interval is widened or narrowed by what the newest forecasts with a known outcome show (conformalised quantile
regression, Romano et al. 2019, over a window that moves). Every score stands beside those of the naive forecasts. What
comes after the last row is printed, drawn and, with --ahead FILE, written, unless there are columns of --known.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from common import results, saved, series
from common.intervals import conformal, latest, misses, widened
from common.series import Parts, Table, Windows, cut, naive_forecasts, scaled, windows
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from lstm_jax import training
from lstm_jax.models import forecaster
from lstm_jax.training import metrics

EXAMPLE = "forecast"
HIDDEN = 64
BATCH = 64
EPOCHS = 15
PATIENCE = 4
LEARNING_RATE = 2e-3
DROPOUT = 0.1
LEVELS = 0.1, 0.5, 0.9
SHOWN = 60
"""forecasts in a picture of one step at a time"""
MEASURES = "scaled MSE", "RMSE", "MAE", "MAPE"


def synthetic(count: int = 3000, cycles: str = ",".join(series.CALENDAR)) -> Table:
    """Hours of a load that follows the hour, the weekday and the temperature."""
    draw = np.random.default_rng(0)
    dates = pd.date_range("2024-01-01", periods=count, freq="h")
    drift = np.convolve(draw.normal(size=count + 71), np.ones(72) / 6, mode="valid")
    temperature = 12 + 6 * np.sin(2 * np.pi * (np.arange(count) - 9) / 24) + drift
    load = 50 + 12 * np.sin(2 * np.pi * (dates.hour.to_numpy() - 8) / 24) - 8 * (dates.day_of_week.to_numpy() > 4)
    load = load + 0.05 * (temperature - 18) ** 2 + draw.normal(size=count)
    return Table(
        dates, dates, load, np.zeros((count, 0)), np.column_stack([temperature, series.calendar(dates, cycles)])
    )


def make_loss(rate: float) -> Any:
    """The pinball loss over all levels and steps."""

    @training.stateless
    def loss(params: forecaster.ForecasterParams, batch: Windows, key: Any) -> tuple[jax.Array, dict[str, Any]]:
        found = quantiles(params, batch, key, rate)
        pinball = metrics.pinball(found, jnp.asarray(batch.target).T, jnp.array(LEVELS, found.dtype))
        return pinball.value(), {"loss": pinball}

    return loss


def quantiles(params: forecaster.ForecasterParams, batch: Windows, key: Any = None, rate: float = 0.0) -> jax.Array:
    """``[K, B, Q]``."""
    past, future = jnp.swapaxes(batch.past, 0, 1), jnp.swapaxes(batch.future, 0, 1)
    return forecaster.forecast(params, past, future, jnp.asarray(batch.naive).T, key=key, dropout_rate=rate)


def train(data: Windows, held_out: Windows, options: argparse.Namespace) -> training.FitResult:
    """The parameters that were best on the validation part."""
    keys = jax.random.split(jax.random.key(options.seed))
    params = forecaster.init_forecaster(keys[0], **sizes(data, options))
    batches = training.Shuffled(data, BATCH, seed=options.seed)
    return training.fit(
        make_loss(options.dropout),
        params,
        batches,
        training.adam(LEARNING_RATE),
        steps=options.steps or options.epochs * len(batches),
        key=keys[1],
        minutes=options.minutes,
        validation=training.Validation(
            training.Shuffled(held_out, 512, shuffle=False), len(batches), patience=PATIENCE
        ),
    )


def sizes(data: Windows, options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``init_forecaster``."""
    return {
        "input_size": data.past.shape[-1],
        "future_size": data.future.shape[-1],
        "horizon": options.horizon,
        "num_quantiles": len(LEVELS),
        "hidden_size": options.hidden,
        "use_decoder": not options.direct,
    }


def kept_options(options: argparse.Namespace) -> dict[str, Any]:
    """What a saved model's inputs mean."""
    names = "target", "inputs", "known", "calendar", "relative", "log", "history", "horizon"
    return {name: getattr(options, name) for name in names}


def predict(params: forecaster.ForecasterParams, data: Windows) -> np.ndarray:
    """``[N, K, Q]``, the level added again."""
    run, batches = jax.jit(quantiles), training.Shuffled(data, 512, shuffle=False)
    found = [np.swapaxes(run(params, batches[number]), 0, 1) for number in range(len(batches))]
    return np.concatenate(found) + data.level[..., None]


def forecast_ahead(
    params: forecaster.ForecasterParams,
    table: Table,
    rows: int,
    best: str,
    missed: tuple[np.ndarray, np.ndarray],
    options: argparse.Namespace,
) -> pd.DataFrame:
    """What comes after the last row: low, median and high by date. The scale is that of so many rows."""
    end = np.array([len(table.target)])
    longer = series.extend(table, options.horizon, options.calendar)
    small, unscaled = scaled(longer, rows, options.log)
    data = windows(small, end, options)
    naive = naive_forecasts(small.target, end, options.horizon, options.seasons)[best]
    found = predict(params, data._replace(naive=naive - data.level))[0]
    margin = latest(np.concatenate(missed))
    wide = unscaled(widened(found, margin))
    return pd.DataFrame(wide, longer.clock[end[0] :].rename("date"), ["low", "median", "high"])


def write_ahead(coming: pd.DataFrame, options: argparse.Namespace) -> None:
    """To the screen as far as it fits, and to --ahead."""
    print(f"after the last row, {options.target}, with the 80 % interval:")
    print(coming.head(12).to_string(float_format="{:.4g}".format) + "\n  ..." * (len(coming) > 12))
    if options.ahead:
        coming.to_csv(options.ahead, float_format="%.6g")


def scores(found: np.ndarray, came: np.ndarray, error: np.ndarray) -> dict[str, float]:
    """Of point forecasts ``[N, K]`` in the series' own unit, and of their scaled error ``[N, K]``."""
    share = np.abs(found - came) / np.abs(came) if (came != 0).all() else np.full(1, np.nan)
    return {
        "scaled MSE": float(np.mean(error**2)),
        "RMSE": float(np.sqrt(np.mean((found - came) ** 2))),
        "MAE": float(np.mean(np.abs(found - came))),
        "MAPE": float(share.mean()),
    }


def draw(
    dates: pd.DatetimeIndex,
    history: np.ndarray,
    target: np.ndarray,
    found: np.ndarray,
    coming: pd.DataFrame | None,
    table: Table,
    options: argparse.Namespace,
) -> None:
    """A picture: what was, what came and what was forecast in the middle of the test part, all steps from one place, or
    one step each from many; and below it what comes after the last row."""
    figure = Figure(figsize=(9, 3.6 if coming is None else 6), layout="constrained")
    panels = figure.subplots(1 if coming is None else 2, 1, squeeze=False)[:, 0]
    ahead = dates[len(history) :]
    panels[0].plot(ahead, target, color="black", label="what came")
    shown = [(panels[0], dates[: len(history)], history, ahead, found, "in the middle of the test part")]
    if coming is not None:
        last = slice(-options.history, None)
        values = coming[["low", "median", "high"]].to_numpy()
        shown.append((panels[1], table.clock[last], table.target[last], coming.index, values, "after the last row"))
    for axes, before, past, after, values, title in shown:
        axes.plot(before, past, color="0.5", label="past")
        axes.plot(after, values[:, 1], ".-" if len(after) == 1 else "-", color="tab:blue", label="forecast, median")
        axes.fill_between(after, values[:, 0], values[:, 2], color="tab:blue", alpha=0.25, label="80 % interval")
        axes.set(ylabel=options.target, title=title)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(options.picture, dpi=120)


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="CSV file (default: a made-up load)")
    parser.add_argument("--target", help="column to forecast (default: the only one)")
    parser.add_argument("--date", help="column of dates, or several: year,month,day,hour (default: the first)")
    parser.add_argument("--inputs", help="columns that are read as well, of the past: A,B")
    parser.add_argument("--known", help="columns that are known in the future too, such as holidays: A,B")
    parser.add_argument("--calendar", default="hour,weekday,year", help="cycles that are known (%(default)s)")
    parser.add_argument("--relative", action="store_true", help="the target as distance from its last value")
    parser.add_argument("--fill", type=float, help="number to take where there is none")
    parser.add_argument("--gaps", action="store_true", help="steps may be uneven")
    parser.add_argument(
        "--history", type=results.whole, default=72, help="steps of the past that are read (%(default)s)"
    )
    parser.add_argument("--horizon", type=results.whole, default=24, help="steps to forecast (%(default)s)")
    parser.add_argument("--seasons", help="steps of naive forecasts: 24,168 (default: by the dates, a day, a week)")
    parser.add_argument(
        "--parts", default="0.6,0.2,0.2", help="training, validation, test: rows or shares (%(default)s)"
    )
    parser.add_argument("--direct", action="store_true", help="all steps from the last output, without a decoder")
    parser.add_argument("--log", action="store_true", help="forecast the logarithm")
    parser.add_argument(
        "--measure", choices=MEASURES, default="RMSE", help="of the naive forecasts in the record (%(default)s)"
    )
    parser.add_argument("--hidden", type=results.whole, default=HIDDEN, help="units (%(default)s)")
    parser.add_argument("--dropout", type=results.rate, default=DROPOUT, help="(%(default)s)")
    parser.add_argument("--epochs", type=results.whole, default=EPOCHS, help="at most (%(default)s)")
    parser.add_argument("--steps", type=results.whole, help="instead of --epochs")
    parser.add_argument("--minutes", type=results.positive, help="training time at most")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: no training")
    parser.add_argument("--ahead", type=Path, help="CSV file to write what comes after the last row to")
    parser.add_argument("--picture", type=Path, default=Path("forecast.png"), help="(%(default)s)")
    options = results.parse(parser, arguments, __file__)
    for name, kind in (("seasons", int), ("parts", float)):
        text = getattr(options, name)
        try:
            setattr(options, name, None if text is None else [kind(one) for one in text.split(",") if one])
        except ValueError:
            parser.error(f"--{name}: got {text}, want numbers with commas between")
    if options.ahead and (options.known or not options.data):
        parser.error("--ahead: want --data, and no --known, since what is known of the future is not in the file")
    if options.smoke:
        options.steps, options.hidden = 3, 8
    return options


def main(arguments: list[str] | None = None) -> float:
    """Trains, forecasts, reports, draws; returns the RMSE on the test part."""
    options = parse_options(arguments)
    table = series.read_table(options) if options.data else synthetic(cycles=options.calendar)
    options.target = options.target or "load"
    options.seasons = series.usual_seasons(table.dates) if options.seasons is None else options.seasons
    if options.log and table.target.min() <= 0:
        raise SystemExit(f"--log: got a target of {table.target.min()}, want all above 0")
    parts = cut(table, options)
    small, unscaled = scaled(table, parts.valid[0], options.log)
    naive = [naive_forecasts(small.target, starts, options.horizon, options.seasons) for starts in parts]
    data = [windows(small, starts, options) for starts in parts]
    _, held_out_truth, truth = (one.target + one.level for one in data)
    best = min(naive[1], key=lambda name: np.abs(naive[1][name] - held_out_truth).mean())
    fit_on, held_out, test = (one._replace(naive=some[best] - one.level) for one, some in zip(data, naive, strict=True))
    print(f"{len(fit_on.target):,} places to learn from, {len(test.target):,} to test on; corrects: {best}")
    began = time.monotonic()
    params = load_kept(options) if options.load else train(fit_on, held_out, options).params
    seconds = time.monotonic() - began
    if options.save:
        saved.save(options.save, EXAMPLE, params, {"sizes": sizes(fit_on, options), "options": kept_options(options)})

    found = predict(params, test)
    missed = misses(predict(params, held_out), held_out_truth), misses(found, truth)
    margin = conformal(*missed)
    wide = widened(found, margin)
    came = unscaled(truth)
    rows = {"LSTM": scores(unscaled(found[..., 1]), came, found[..., 1] - truth)}
    for name, values in naive[2].items():
        rows[name] = scores(unscaled(values), came, values - truth)
    for name, row in rows.items():
        print(f"  {name:18} " + "  ".join(f"{measure} {value:.4g}" for measure, value in row.items()))
    inside = [float(np.mean((one[..., 0] <= truth) & (truth <= one[..., 2]))) for one in (found, wide)]
    print(f"80 % interval: {inside[0]:.1%} of the test values inside, {inside[1]:.1%} once calibrated")
    say_who_wins(rows)
    show(params, table, parts, came, unscaled(wide), best, missed, options)
    results.record(
        options,
        params=params,
        seconds=seconds,
        measured={**rows["LSTM"], results.INSIDE: inside[1]},
        naive={name: row[options.measure] for name, row in rows.items() if name != "LSTM"},
    )
    return rows["LSTM"]["RMSE"]


def load_kept(options: argparse.Namespace) -> forecaster.ForecasterParams:
    """The model in --load, if it was made with the same options."""
    params, notes, _ = saved.load(options.load, EXAMPLE, forecaster.init_forecaster)
    for name, now in kept_options(options).items():
        kept = notes["options"][name]
        if kept != now:
            raise SystemExit(f"--load: got a model with --{name} {kept}, want the same, not {now}")
    return params


def show(
    params: forecaster.ForecasterParams,
    table: Table,
    parts: Parts,
    came: np.ndarray,
    wide: np.ndarray,
    best: str,
    missed: tuple[np.ndarray, np.ndarray],
    options: argparse.Namespace,
) -> None:
    """A place of the test part, from what came ``[N, K]`` and the intervals ``[N, K, Q]``, and what comes after the
    last row."""
    place = len(came) // 2
    start = int(parts.test[place])
    if options.horizon == 1:  # one step is a point: as many in turn as make a picture
        target, found = came[place : place + SHOWN, 0], wide[place : place + SHOWN, 0]
    else:
        target, found = came[place], wide[place]
    dates = table.clock[start - options.history : start + len(target)]
    coming = None
    if options.data and not options.known:  # what is known of the future is not in the file
        coming = forecast_ahead(params, table, parts.valid[0], best, missed, options)
        write_ahead(coming, options)
    draw(dates, table.target[start - options.history : start], target, found, coming, table, options)


def say_who_wins(rows: dict[str, dict[str, float]]) -> None:
    """Plainly, by RMSE."""
    best = min((name for name in rows if name != "LSTM"), key=lambda name: rows[name]["RMSE"])
    mine, theirs = rows["LSTM"]["RMSE"], rows[best]["RMSE"]
    ratio = 1.0 if mine == theirs else mine / max(theirs, 1e-30)
    verdict = "equals" if abs(ratio - 1) < 0.005 else "beats" if ratio < 1 else "does not beat"
    print(f"The LSTM {verdict} the best naive forecast, {best}: RMSE {ratio:.2f} of its")


if __name__ == "__main__":
    main()
