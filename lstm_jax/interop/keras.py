"""Keras 3: ``layer.get_weights()`` of ``LSTM``, ``GRU`` (``reset_after=True``) and ``Bidirectional`` layers of them.

An LSTM has ``[kernel [D, 4H], recurrent_kernel [H, 4H], bias [4H]]`` with gates i, f, c, o, the layout of
``LSTMParams``; ``unit_forget_bias`` is part of the bias. A GRU has gates z, r, n and ``bias [2, 3H]``: an input bias
and a recurrent bias. The import adds the two for z and r; the export writes the sum as the input bias. A layer with
``use_bias=False`` has no bias. ``Bidirectional`` lists the weights of the forward layer, then of the backward layer.
Weights do not contain activations: layers with non-default activations convert but compute different outputs.
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
        weights: ``layer.get_weights()``: 2 or 3 arrays, or 4 or 6 of a ``Bidirectional`` layer.
    Returns:
        ``LSTMParams``, or a ``Bidirectional`` pair of them.
    Raises:
        ValueError: if the number of arrays or a shape is wrong.

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
        weights: ``layer.get_weights()``: 2 or 3 arrays, or 4 or 6 of a ``Bidirectional`` layer.
    Returns:
        ``GRUParams``, or a ``Bidirectional`` pair of them.
    Raises:
        ValueError: if the number of arrays or a shape is wrong, or the layer has ``reset_after=False``.

    Example:
        >>> import numpy as np, lstm_jax as lj
        >>> weights = [np.zeros((3, 24), np.float32), np.zeros((8, 24), np.float32), np.zeros((2, 24), np.float32)]
        >>> lj.interop.keras.import_gru(weights).candidate_bias.shape
        (8,)
    """
    return _import_layer(weights, 3, _make_gru_params)


def export_lstm(params: PyTree, *, use_bias: bool = True) -> list[Array]:
    """Converts one LSTM layer to the weights of a Keras ``LSTM`` layer.

    Args:
        params: ``LSTMParams``, or a ``Bidirectional`` pair of them.
        use_bias: whether the Keras layer has a bias; if False, the bias of ``params`` must be 0.
    Returns:
        a list of NumPy arrays, for ``layer.set_weights``.
    Raises:
        ValueError: if ``params`` has the wrong type, or ``use_bias`` is False and the bias is not 0.

    Example:
        >>> import jax, lstm_jax as lj
        >>> weights = lj.interop.keras.export_lstm(lj.init_params(jax.random.key(0), 3, 8))
        >>> [array.shape for array in weights]
        [(3, 32), (8, 32), (32,)]
    """
    return _export_layer(params, use_bias, LSTMParams, lambda params: [to_numpy(leaf) for leaf in params])


def export_gru(params: PyTree, *, use_bias: bool = True) -> list[Array]:
    """Converts one GRU layer to the weights of a Keras ``GRU`` layer.

    The input bias holds b_r, b_z and b_n; the recurrent bias holds b_hn for n and 0 for r and z.

    Args:
        params: ``GRUParams``, or a ``Bidirectional`` pair of them.
        use_bias: whether the Keras layer has a bias; if False, the bias of ``params`` must be 0.
    Returns:
        a list of NumPy arrays, for ``layer.set_weights``.
    Raises:
        ValueError: if ``params`` has the wrong type, or ``use_bias`` is False and a bias is not 0.

    Example:
        >>> import jax, lstm_jax as lj
        >>> weights = lj.interop.keras.export_gru(lj.cells.GRU.init(jax.random.key(0), 3, 8))
        >>> [array.shape for array in weights]
        [(3, 24), (8, 24), (2, 24)]
    """
    return _export_layer(params, use_bias, GRUParams, _make_gru_weights)


def _make_gru_params(kernel: Array, recurrent_kernel: Array, biases: Array) -> GRUParams:
    """Reorders the gates from z, r, n to r, z, n and adds the two biases ``[2, 3H]`` of r and z."""
    hidden_size = recurrent_kernel.shape[0]
    kernel, recurrent_kernel, biases = (
        reorder_gates(leaf, "zrn", "rzn") for leaf in (kernel, recurrent_kernel, biases)
    )
    merged = join_gates([biases[0, : 2 * hidden_size] + biases[1, : 2 * hidden_size], biases[0, 2 * hidden_size :]])
    return GRUParams(kernel, recurrent_kernel, merged, biases[1, 2 * hidden_size :])


def _make_gru_weights(params: GRUParams) -> list[Array]:
    """Returns the Keras weights of ``GRUParams``, gates in the order z, r, n."""
    kernel, recurrent_kernel, bias, candidate_bias = map(to_numpy, params)
    recurrent_bias = np.concatenate([np.zeros(2 * candidate_bias.shape[0], bias.dtype), candidate_bias])
    arrays = (kernel, recurrent_kernel, np.stack([bias, recurrent_bias]))
    return [reorder_gates(array, "rzn", "zrn") for array in arrays]


def _import_layer(weights: Sequence[Any], num_gates: int, make_params: Callable[..., PyTree]) -> PyTree:
    """Checks the weights of one Keras layer and converts them by ``make_params(kernel, recurrent_kernel, bias)``."""
    arrays = [to_numpy(array) for array in weights]
    if len(arrays) in (4, 6):
        half = len(arrays) // 2
        if arrays[0].shape != arrays[half].shape:
            raise ValueError(
                f"weights[{half}]: got shape {arrays[half].shape}, want {arrays[0].shape}: both directions of a "
                "Bidirectional layer read the same inputs; give layers of a model one by one"
            )
        return Bidirectional(
            *(_import_layer(direction, num_gates, make_params) for direction in (arrays[:half], arrays[half:]))
        )
    if len(arrays) not in (2, 3):
        raise ValueError(
            f"weights: got {len(arrays)} arrays, want 2 or 3 of one layer, or 4 or 6 of a Bidirectional one"
        )
    kernel, recurrent_kernel = arrays[:2]
    hidden_size = recurrent_kernel.shape[0]
    check_array("weights[0]", kernel, (kernel.shape[0], num_gates * hidden_size))
    check_array("weights[1]", recurrent_kernel, (hidden_size, num_gates * hidden_size))
    has_bias = len(arrays) == 3
    bias_shape = (2, 3 * hidden_size) if num_gates == 3 else (4 * hidden_size,)
    if num_gates == 3 and has_bias and arrays[2].ndim == 1:
        raise ValueError(
            f"weights[2]: got shape {arrays[2].shape}, want {bias_shape}: with reset_after=False the reset gate acts "
            "before the matrix product, which cells.GRU does not compute"
        )
    zero_bias = np.broadcast_to(bias_or_zeros(None, kernel, num_gates * hidden_size), bias_shape)
    bias: Array = arrays[2] if has_bias else zero_bias
    check_array("weights[2]", bias, bias_shape)
    return to_jax(make_params(kernel, recurrent_kernel, bias))


def _export_layer(
    params: PyTree, use_bias: bool, params_type: type, make_weights: Callable[[PyTree], list[Array]]
) -> list[Array]:
    """Converts one layer, or both directions of a ``Bidirectional`` layer, to Keras weights."""
    if isinstance(params, Bidirectional):
        return [
            array for direction in params for array in _export_layer(direction, use_bias, params_type, make_weights)
        ]
    check_type("params", params, params_type)
    *kernels, bias = make_weights(params)
    if use_bias:
        return [*kernels, bias]
    check_zero_bias(bias, "a layer with use_bias=False has none")
    return kernels
