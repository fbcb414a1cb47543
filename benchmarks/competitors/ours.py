"""Runs this library."""

from collections.abc import Callable
from functools import partial

import jax

import lstm_jax as lj
from benchmarks.competitors.layer import Layer


def layers() -> dict[str, Layer]:
    """Returns a row for each choice of what the forward pass saves, and one for programs without a derivative."""
    return {
        "lstm_jax": _layer(lambda time: None),
        "lstm_jax gates": _layer(lambda time: "gates"),
        "lstm_jax states": _layer(lambda time: "states"),
        "lstm_jax sqrt(T)": _layer(lambda time: round(time**0.5)),
    }


def _layer(remat: Callable[[int], str | int | None]) -> Layer:
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
