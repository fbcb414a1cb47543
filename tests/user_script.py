"""What a user writes, for the type checkers: NumPy arrays, lists and modules reached by attribute are accepted."""

from functools import partial

import jax
import numpy as np
import optax
from flax import nnx

import lstm_jax as lj

params = lj.init_params(jax.random.key(0), input_size=3, hidden_size=8)
xs = np.ones((5, 2, 3), np.float32)
final_state, ys = lj.lstm(params, xs, lengths=np.array([5, 3]))
h: jax.Array = final_state.h
final_state, ys = lj.lstm(params, xs, final_state, resets=np.zeros((5, 2), bool), remat="states")
state, y = lj.lstm_cell(params, lj.zero_state(params, (2,)), xs[0])
state, ys = jax.lax.scan(partial(lj.lstm_cell, params), lj.zero_state(params, (2,)), xs)
layers = lj.init_stack(jax.random.key(1), 3, 8, num_layers=2, cell=lj.cells.GRU, bidirectional=True)
final_states, ys = lj.unroll_stack(lj.cells.GRU, layers, xs)
gru_params = lj.cells.CELLS["gru"].init(jax.random.key(2), 3, 8)
mask: jax.Array = lj.lengths_to_mask(np.array([5, 3]), 5)
batches = lj.training.Shuffled({"x": xs.swapaxes(0, 1)}, 2)
optimizer: optax.GradientTransformation = lj.training.adam(1e-3)
trace = lj.diagnostics.trace(params, xs)
_, ys = lj.lstm(params, nnx.Param(jax.numpy.ones((5, 2, 3))), lengths=np.array([5, 3]))
version: str = lj.__version__
