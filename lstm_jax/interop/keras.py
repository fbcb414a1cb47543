"""Keras 3: ``layer.get_weights()`` of ``LSTM``, ``GRU`` (``reset_after=True``) and ``Bidirectional`` of them.

An LSTM has ``[kernel [D, 4H], recurrent_kernel [H, 4H], bias [4H]]``, gates i, f, c, o as ours: nothing moves. A layer
with ``use_bias=False`` has no bias; ``Bidirectional`` lists the forward layer, then the backward one. The 1 of
``unit_forget_bias`` is part of the bias. A GRU has gates z, r, n and ``bias [2, 3H]``: the input's and the recurrent
one; we keep the sum for z and r, written back on the input's side. Layers with other activations than the standard ones
have the same weights but compute something else.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_jax._core.checks import check_array, check_type
from lstm_jax._core.structs import Bidirectional, LSTMParams, PyTree
from lstm_jax.cells import GRUParams
from lstm_jax.interop.arrays import Array, bias_or_zeros, check_zero_bias, join_gates, reorder_gates, to_jax, to_numpy


def import_lstm(weights: Sequence[Any]) -> PyTree:
    """Converts the weights of a Keras ``LSTM`` layer to one layer of ``lstm_stack``.

    Args:
        weights: ``layer.get_weights()``: 2 or 3 arrays, or 4 or 6 for a ``Bidirectional`` layer.
    Returns:
        ``LSTMParams``, or ``Bidirectional`` of two.
    Raises:
        ValueError: for another number of arrays, or arrays of other shapes.

    Example:
        >>> import numpy as np, lstm_jax as lj
        >>> weights = [np.zeros((3, 32), np.float32), np.zeros((8, 32), np.float32), np.zeros(32, np.float32)]
        >>> lj.interop.keras.import_lstm(weights).recurrent_kernel.shape
        (8, 32)
    """
    return _import_layer(weights, 4, LSTMParams)


def import_gru(weights: Sequence[Any]) -> PyTree:
    """Converts the weights of a Keras ``GRU`` layer with ``reset_after=True`` to one layer of ``unroll_stack``.

    Args:
        weights: ``layer.get_weights()``: 2 or 3 arrays, or 4 or 6 for a ``Bidirectional`` layer.
    Returns:
        ``GRUParams``, or ``Bidirectional`` of two.
    Raises:
        ValueError: for another number of arrays, arrays of other shapes, or a layer with ``reset_after=False``.

    Example:
        >>> import numpy as np, lstm_jax as lj
        >>> weights = [np.zeros((3, 24), np.float32), np.zeros((8, 24), np.float32), np.zeros((2, 24), np.float32)]
        >>> lj.interop.keras.import_gru(weights).candidate_bias.shape
        (8,)
    """
    return _import_layer(weights, 3, _gru_params)


def export_lstm(params: PyTree, *, use_bias: bool = True) -> list[Array]:
    """Converts one LSTM layer to the weights of a Keras ``LSTM`` layer.

    Args:
        params: ``LSTMParams``, or ``Bidirectional`` of two.
        use_bias: False for a layer without biases, where ours must be 0.
    Returns:
        a list of NumPy arrays, for ``layer.set_weights(...)``.
    Raises:
        ValueError: for parameters of another kind, or a bias that has no place.

    Example:
        >>> import jax, lstm_jax as lj
        >>> weights = lj.interop.keras.export_lstm(lj.init_params(jax.random.key(0), 3, 8))
        >>> [array.shape for array in weights]
        [(3, 32), (8, 32), (32,)]
    """
    return _export_layer(params, use_bias, LSTMParams, lambda params: [to_numpy(leaf) for leaf in params])


def export_gru(params: PyTree, *, use_bias: bool = True) -> list[Array]:
    """Converts one GRU layer to the weights of a Keras ``GRU`` layer.

    Of the two biases, the input's holds b_r, b_z and b_n, and the recurrent one b_hn.

    Args:
        params: ``GRUParams``, or ``Bidirectional`` of two.
        use_bias: False for a layer without biases, where ours must be 0.
    Returns:
        a list of NumPy arrays, for ``layer.set_weights(...)``.
    Raises:
        ValueError: for parameters of another kind, or a bias that has no place.

    Example:
        >>> import jax, lstm_jax as lj
        >>> weights = lj.interop.keras.export_gru(lj.cells.GRU.init(jax.random.key(0), 3, 8))
        >>> [array.shape for array in weights]
        [(3, 24), (8, 24), (2, 24)]
    """
    return _export_layer(params, use_bias, GRUParams, _gru_weights)


def _gru_params(kernel: Array, recurrent_kernel: Array, biases: Array) -> GRUParams:
    """Merges the biases ``[2, 3H]`` of r and z, after all gates were put in our order."""
    size = recurrent_kernel.shape[0]
    kernel, recurrent_kernel, biases = (
        reorder_gates(leaf, "zrn", "rzn") for leaf in (kernel, recurrent_kernel, biases)
    )
    merged = join_gates([biases[0, : 2 * size] + biases[1, : 2 * size], biases[0, 2 * size :]])
    return GRUParams(kernel, recurrent_kernel, merged, biases[1, 2 * size :])


def _gru_weights(params: GRUParams) -> list[Array]:
    kernel, recurrent_kernel, bias, candidate_bias = map(to_numpy, params)
    recurrent_bias = np.concatenate([np.zeros(2 * candidate_bias.shape[0], bias.dtype), candidate_bias])
    weights = (kernel, recurrent_kernel, np.stack([bias, recurrent_bias]))
    return [reorder_gates(array, "rzn", "zrn") for array in weights]


def _import_layer(weights: Sequence[Any], num_gates: int, build: Callable[..., PyTree]) -> PyTree:
    arrays = [to_numpy(array) for array in weights]
    if len(arrays) in (4, 6):
        half = len(arrays) // 2
        if arrays[0].shape != arrays[half].shape:
            raise ValueError(
                f"weights[{half}]: got shape {arrays[half].shape}, want {arrays[0].shape}: both directions of a "
                "Bidirectional layer read the same inputs; give layers of a model one by one"
            )
        return Bidirectional(*(_import_layer(side, num_gates, build) for side in (arrays[:half], arrays[half:])))
    if len(arrays) not in (2, 3):
        raise ValueError(
            f"weights: got {len(arrays)} arrays, want 2 or 3 of one layer, or 4 or 6 of a Bidirectional one"
        )
    kernel, recurrent_kernel = arrays[:2]
    size = recurrent_kernel.shape[0]
    check_array("weights[0]", kernel, (kernel.shape[0], num_gates * size))
    check_array("weights[1]", recurrent_kernel, (size, num_gates * size))
    has_bias = len(arrays) == 3
    bias: Array = arrays[2] if has_bias else bias_or_zeros(None, kernel, num_gates * size)
    if num_gates == 3 and has_bias and bias.ndim == 1:
        raise ValueError(
            f"weights[2]: got shape {bias.shape}, want {(2, 3 * size)}: with reset_after=False the reset gate acts "
            "before the matrix product, which cells.GRU does not compute"
        )
    bias = np.broadcast_to(bias, (2, 3 * size)) if num_gates == 3 and not has_bias else bias
    check_array("weights[2]", bias, (2, 3 * size) if num_gates == 3 else (4 * size,))
    return to_jax(build(kernel, recurrent_kernel, bias))


def _export_layer(
    params: PyTree, use_bias: bool, params_type: type, weights_of: Callable[[PyTree], list[Array]]
) -> list[Array]:
    if isinstance(params, Bidirectional):
        return [array for side in params for array in _export_layer(side, use_bias, params_type, weights_of)]
    check_type("params", params, params_type)
    *kernels, bias = weights_of(params)
    if use_bias:
        return [*kernels, bias]
    check_zero_bias(bias, "a layer with use_bias=False has none")
    return kernels
