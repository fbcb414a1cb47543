"""The table of all cells by name; the tests run every cell in it. A new cell takes one file and one line here."""

from lstm_jax._core.structs import Cell
from lstm_jax.cells import (
    batch_norm,
    conv,
    gru,
    layer_norm,
    lstm,
    minimal,
    mogrifier,
    multiplicative,
    peephole,
    projected,
    simple,
    slstm,
    variants,
)

CELLS: dict[str, Cell] = {
    "simple": simple.SIMPLE,
    "gru": gru.GRU,
    "gru_original": gru.ORIGINAL_GRU,
    "lstm": lstm.LSTM,
    **{name: variants.lstm_variant(spec) for name, spec in variants.GATE_SPECS.items()},
    "peephole": peephole.PEEPHOLE_LSTM,
    "projected": projected.PROJECTED_LSTM,
    "layer_norm": layer_norm.LAYER_NORM_LSTM,
    "gate_norm": layer_norm.GATE_NORM_LSTM,
    "batch_norm": batch_norm.BATCH_NORM_LSTM,
    "multiplicative": multiplicative.MULTIPLICATIVE_LSTM,
    "mogrifier": mogrifier.MOGRIFIER_LSTM,
    "slstm": slstm.SLSTM,
    "min_gru": minimal.MIN_GRU,
    "min_lstm": minimal.MIN_LSTM,
    "conv_1d": conv.CONV_LSTM_1D,
    "conv_2d": conv.CONV_LSTM_2D,
}
"""Name to cell."""
