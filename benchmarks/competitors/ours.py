"""LSTM layers of lstm_jax."""

from collections.abc import Callable
from functools import partial

import jax

import lstm_jax as lj
from benchmarks.competitors.layer import Layer


def layers() -> dict[str, Layer]:
    """Returns a layer for each ``remat`` option; ``lstm_jax`` leaves the choice to the library."""
    return {
        "lstm_jax": _make_layer(lambda num_steps: None),
        "lstm_jax gates": _make_layer(lambda num_steps: "gates"),
        "lstm_jax states": _make_layer(lambda num_steps: "states"),
        "lstm_jax sqrt(T)": _make_layer(lambda num_steps: round(num_steps**0.5)),
    }


def _make_layer(remat: Callable[[int], str | int | None]) -> Layer:
    """Makes a layer whose ``remat`` option is a function of the number of steps."""
    return Layer(
        export_params=lambda params: params,
        import_params=lambda params: params,
        run_sequence=partial(_run_sequence, remat),
        step=lj.lstm_cell,
        final_output=lambda params, xs: lj.lstm(params, xs, remat=remat(xs.shape[0]))[0].h,
    )


def _run_sequence(
    remat: Callable[[int], str | int | None],
    params: lj.LSTMParams,
    xs: jax.Array,
    *,
    reverse: bool = False,
    lengths: jax.Array | None = None,
    resets: jax.Array | None = None,
) -> jax.Array:
    return lj.lstm(params, xs, reverse=reverse, lengths=lengths, resets=resets, remat=remat(xs.shape[0]))[1]
