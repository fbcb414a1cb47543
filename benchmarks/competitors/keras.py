"""``keras.layers.LSTM`` of Keras 3 with the JAX backend."""

import os

import jax

from benchmarks.competitors.layer import Layer
from lstm_jax import LSTMParams, LSTMState

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras


def layers() -> dict[str, Layer]:
    """Returns a single layer, batch first, called by ``stateless_call`` as in ``keras.Model``."""
    if keras.backend.backend() != "jax":
        raise ImportError(f"Keras runs on {keras.backend.backend()} here; set KERAS_BACKEND=jax")
    unsupported = {"resets": "keras.layers.LSTM takes no resets"}
    import_params = lambda weights: LSTMParams(*weights)  # noqa: E731
    return {"keras": Layer(list, import_params, _run_sequence, _step, unsupported, batch_first=True)}


def _run_sequence(
    weights: list,
    xs: jax.Array,
    *,
    reverse: bool = False,
    lengths: jax.Array | None = None,
    resets: None = None,
) -> jax.Array:
    """Runs the layer.

    With ``go_backwards`` Keras returns the last time step first, so outputs are flipped.
    """
    if xs.ndim == 2:
        return _run_sequence(weights, xs[None], reverse=reverse)[0]
    layer = keras.layers.LSTM(weights[1].shape[0], return_sequences=True, go_backwards=reverse)
    layer.build(xs.shape)
    mask = None if lengths is None else jax.numpy.arange(xs.shape[1])[None] < lengths[:, None]
    non_trainable = [variable.value for variable in layer.non_trainable_variables]
    ys, _ = layer.stateless_call(weights, non_trainable, xs, mask=mask)
    return ys[:, ::-1] if reverse else ys


def _step(weights: list, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    cell = keras.layers.LSTMCell(state.h.shape[-1])
    cell.build(x.shape)
    non_trainable = [variable.value for variable in cell.non_trainable_variables]
    (y, (h, c)), _ = cell.stateless_call(weights, non_trainable, x, [state.h, state.c])
    return LSTMState(h, c), y
