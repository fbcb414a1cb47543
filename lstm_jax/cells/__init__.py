"""Recurrent cells, one file each."""

from lstm_jax.cells.gru import GRU, GRUParams
from lstm_jax.cells.lstm import LSTM

__all__ = ["GRU", "LSTM", "GRUParams"]
