"""Recurrent cells, one file each."""

from lstm_jax.cells.gru import GRU, GRUParams
from lstm_jax.cells.lstm import LSTM
from lstm_jax.cells.projected import PROJECTED_LSTM, ProjectedLSTMParams, init_projected_params

__all__ = ["GRU", "LSTM", "PROJECTED_LSTM", "GRUParams", "ProjectedLSTMParams", "init_projected_params"]
