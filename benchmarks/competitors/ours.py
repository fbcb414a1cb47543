"""This library."""

from collections.abc import Callable
from functools import partial

import jax

import lstm_jax as lj
from benchmarks.competitors.layer import Layer


def layers() -> dict[str, Layer]:
    """A row for each choice of what the forward pass saves, and one for programs without a derivative."""
    return {
        "lstm_jax": _layer(lambda time: None),
        "lstm_jax gates": _layer(lambda time: "gates"),
        "lstm_jax states": _layer(lambda time: "states"),
        "lstm_jax sqrt(T)": _layer(lambda time: round(time**0.5)),
    }


def _layer(remat: Callable[[int], str | int | None]) -> Layer:
    return Layer(
        pack=lambda params: params,
        unpack=lambda params: params,
        sequence=partial(_sequence, remat),
        cell=lj.lstm_cell,
        last=lambda params, xs: lj.lstm(params, xs, remat=remat(xs.shape[0]))[0].h,
    )


def _sequence(
    remat: Callable[[int], str | int | None],
    params: lj.LSTMParams,
    xs: jax.Array,
    *,
    reverse: bool = False,
    lengths: jax.Array | None = None,
    resets: jax.Array | None = None,
) -> jax.Array:
    return lj.lstm(params, xs, reverse=reverse, lengths=lengths, resets=resets, remat=remat(xs.shape[0]))[1]
