"""Every cell by name: what the laws iterate over. A new cell is one file and one line here."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax.cells import (
    batch_norm,
    conv,
    gru,
    layer_norm,
    minimal,
    mogrifier,
    multiplicative,
    peephole,
    projected,
    simple,
    slstm,
    variants,
)
from lstm_jax.cells import lstm as standard
from lstm_jax.checks import check_drawn, check_name
from lstm_jax.initializers import init_params
from lstm_jax.structs import Cell, PyTree, accumulator_dtype


class Kind(NamedTuple):
    """A cell and how its parameters are drawn."""

    cell: Cell
    draw: Callable[..., PyTree]
    """``draw(key, input_size, hidden_size, dtype, **options) -> params``"""


def _draw_lstm(key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype, **options: Any) -> PyTree:
    return init_params(key, inputs, hidden, dtype=dtype, **options)


def _draw_projected(key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype, projection_size: int) -> PyTree:
    return projected.init_projected_params(key, inputs, hidden, projection_size, dtype=dtype)


CELLS = {
    "simple": Kind(simple.SIMPLE, simple.draw),
    "gru": Kind(gru.GRU, gru.draw),
    "gru_original": Kind(gru.ORIGINAL_GRU, gru.draw_original),
    "lstm": Kind(standard.LSTM, _draw_lstm),
    **{name: Kind(variants.variant(form), partial(variants.draw, form=form)) for name, form in variants.FORMS.items()},
    "peephole": Kind(peephole.PEEPHOLE_LSTM, peephole.draw),
    "projected": Kind(projected.PROJECTED_LSTM, _draw_projected),
    "layer_norm": Kind(layer_norm.LAYER_NORM_LSTM, layer_norm.draw),
    "gate_norm": Kind(layer_norm.GATE_NORM_LSTM, layer_norm.draw_per_gate),
    "batch_norm": Kind(batch_norm.BATCH_NORM_LSTM, batch_norm.draw),
    "multiplicative": Kind(multiplicative.MULTIPLICATIVE_LSTM, multiplicative.draw),
    "mogrifier": Kind(mogrifier.MOGRIFIER_LSTM, mogrifier.draw),
    "slstm": Kind(slstm.SLSTM, slstm.draw),
    "min_gru": Kind(minimal.MIN_GRU, minimal.draw_gru),
    "min_lstm": Kind(minimal.MIN_LSTM, minimal.draw_lstm),
    "conv_1d": Kind(conv.CONV_LSTM_1D, partial(conv.draw, window=(3,))),
    "conv_2d": Kind(conv.CONV_LSTM_2D, conv.draw),
}


def init_cell(
    name: str,
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    *,
    dtype: jnp.dtype = jnp.float32,
    **options: Any,
) -> PyTree:
    """Draws the parameters of one layer of the cell of this name.

        params = lj.cells.init_cell("peephole", jax.random.key(0), 40, 256)
        state, ys = lj.unroll(lj.cells.CELLS["peephole"].cell, params, xs)

    Args:
        name: a key of ``CELLS``.
        key: a JAX random key.
        input_size: ``D``.
        hidden_size: ``H``.
        dtype: of the parameters; half precision is drawn in float32 and cast.
        options: of the cell: ``scheme`` and ``max_time`` for "lstm", ``projection_size`` for "projected", ``rounds``
            for "mogrifier", ``places`` for "batch_norm", ``window`` for "conv_1d" and "conv_2d".
    Raises:
        ValueError: an unknown name, a size below 1, a dtype that is not floating.
    """
    check_name("name", name, tuple(CELLS))
    check_drawn(key, dtype, input_size=input_size, hidden_size=hidden_size)
    params = CELLS[name].draw(key, input_size, hidden_size, accumulator_dtype(dtype), **options)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)
