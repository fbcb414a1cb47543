"""Recurrent cells, one file per family; ``CELLS`` maps names to cells."""

from lstm_jax.cells.batch_norm import (
    BATCH_NORM_LSTM,
    BatchNormParams,
    BatchNormState,
    batch_norm_train,
    update_statistics,
)
from lstm_jax.cells.conv import CONV_LSTM_1D, CONV_LSTM_2D, ConvLSTMParams, conv_lstm
from lstm_jax.cells.dense import matmul
from lstm_jax.cells.gates import GateSpec
from lstm_jax.cells.gru import GRU, ORIGINAL_GRU, GRUParams, OriginalGRUParams
from lstm_jax.cells.inputs import with_inputs
from lstm_jax.cells.layer_norm import GATE_NORM_LSTM, LAYER_NORM_LSTM, GateNormParams, LayerNormParams
from lstm_jax.cells.lstm import LSTM
from lstm_jax.cells.minimal import MIN_GRU, MIN_LSTM, MinGRUParams, MinLSTMParams
from lstm_jax.cells.mogrifier import MOGRIFIER_LSTM, MogrifierParams
from lstm_jax.cells.multiplicative import MULTIPLICATIVE_LSTM, MultiplicativeParams
from lstm_jax.cells.peephole import PEEPHOLE_LSTM, PeepholeParams
from lstm_jax.cells.projected import PROJECTED_LSTM, ProjectedLSTMParams
from lstm_jax.cells.simple import SIMPLE, SimpleParams, simple_cell
from lstm_jax.cells.slstm import SLSTM, SLSTMState
from lstm_jax.cells.table import CELLS
from lstm_jax.cells.variants import GATE_SPECS, GatedParams, lstm_variant

__all__ = [
    "BATCH_NORM_LSTM",
    "CELLS",
    "CONV_LSTM_1D",
    "CONV_LSTM_2D",
    "GATE_NORM_LSTM",
    "GATE_SPECS",
    "GRU",
    "LAYER_NORM_LSTM",
    "LSTM",
    "MIN_GRU",
    "MIN_LSTM",
    "MOGRIFIER_LSTM",
    "MULTIPLICATIVE_LSTM",
    "ORIGINAL_GRU",
    "PEEPHOLE_LSTM",
    "PROJECTED_LSTM",
    "SIMPLE",
    "SLSTM",
    "BatchNormParams",
    "BatchNormState",
    "ConvLSTMParams",
    "GRUParams",
    "GateNormParams",
    "GateSpec",
    "GatedParams",
    "LayerNormParams",
    "MinGRUParams",
    "MinLSTMParams",
    "MogrifierParams",
    "MultiplicativeParams",
    "OriginalGRUParams",
    "PeepholeParams",
    "ProjectedLSTMParams",
    "SLSTMState",
    "SimpleParams",
    "batch_norm_train",
    "conv_lstm",
    "lstm_variant",
    "matmul",
    "simple_cell",
    "update_statistics",
    "with_inputs",
]
