"""cuDNN: the flat weight vector of ``jax.experimental.rnn``, for LSTMs with several layers and directions.

All kernels come first: ``weight_ih`` and ``weight_hh`` of layer 0 forward, layer 0 reverse, layer 1 forward and so on,
in PyTorch's shapes and gate order. All biases follow in the same order, ``bias_ih`` and ``bias_hh``. The import adds
the two biases; the export writes their sum as ``bias_ih`` and 0 as ``bias_hh``. Weights are float32, and the output
size is H.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lstm_jax._core.checks import check_array, check_layers
from lstm_jax._core.structs import Bidirectional, LSTMParams, PyTree
from lstm_jax.interop.arrays import check_layer_widths, directions_of, to_jax, unwrap_variables


def import_lstm(
    weights: ArrayLike, input_size: int, hidden_size: int, num_layers: int = 1, *, bidirectional: bool = False
) -> tuple[PyTree, ...]:
    """Converts cuDNN's flat weight vector to layers for ``lstm_stack``.

    Args:
        weights: the flat vector, as returned by ``jax.experimental.rnn.init_lstm_weight``.
        input_size: features of the inputs, D.
        hidden_size: features of the state of each layer and direction, H.
        num_layers: number of stacked layers.
        bidirectional: whether each layer processes the sequence in both directions.
    Returns:
        a tuple with the ``LSTMParams`` of each layer, lowest first, or a ``Bidirectional`` pair per layer.
    Raises:
        ValueError: if the length of the vector does not match these sizes.

    Example:
        >>> import jax, lstm_jax as lj
        >>> vector = lj.interop.cudnn.export_lstm(lj.init_stack(jax.random.key(0), 3, 8, 2))
        >>> layers = lj.interop.cudnn.import_lstm(vector, input_size=3, hidden_size=8, num_layers=2)
        >>> layers[1].input_kernel.shape
        (8, 32)
    """
    vector = to_jax(weights)
    num_directions = 2 if bidirectional else 1
    num_rows = 4 * hidden_size
    kernel_shapes: list[tuple[int, ...]] = []
    bias_shapes: list[tuple[int, ...]] = []
    for layer_index in range(num_layers):
        layer_input_size = num_directions * hidden_size if layer_index else input_size
        kernel_shapes += num_directions * [(num_rows, layer_input_size), (num_rows, hidden_size)]
        bias_shapes += 2 * num_directions * [(num_rows,)]
    shapes = kernel_shapes + bias_shapes
    check_array("weights", vector, (sum(map(math.prod, shapes)),))
    arrays = []
    start = 0
    for shape in shapes:
        end = start + math.prod(shape)
        arrays.append(vector[start:end].reshape(shape))
        start = end
    kernels, biases = arrays[: len(kernel_shapes)], arrays[len(kernel_shapes) :]
    tensors = zip(kernels[::2], kernels[1::2], biases[::2], biases[1::2], strict=True)
    directions = [LSTMParams(w_ih.T, w_hh.T, b_ih + b_hh) for w_ih, w_hh, b_ih, b_hh in tensors]
    return tuple(map(Bidirectional, directions[::2], directions[1::2])) if bidirectional else tuple(directions)


def export_lstm(layers: Sequence[PyTree]) -> jax.Array:
    """Converts layers to cuDNN's flat weight vector: the inverse of ``import_lstm``.

    Args:
        layers: the float32 ``LSTMParams`` of each layer, or a ``Bidirectional`` pair per layer, all of the same H.
    Returns:
        the flat vector, for ``jax.experimental.rnn.lstm``.
    Raises:
        ValueError: if a layer is not ``LSTMParams``, not float32, or of the wrong shape.

    Example:
        >>> import jax, lstm_jax as lj
        >>> lj.interop.cudnn.export_lstm(lj.init_stack(jax.random.key(0), 3, 8, 1)).shape  # 4 * 8 * (3 + 8 + 2)
        (416,)
    """
    check_layers(layers)
    layers = unwrap_variables(layers)
    directions = [params for layer in layers for params in directions_of(layer)]
    for params in directions:
        if not isinstance(params, LSTMParams):
            raise ValueError(f"layers: got {type(params).__name__}, want LSTMParams; the binding has no projection")
        if params.bias.dtype != jnp.float32:
            raise ValueError(f"layers: got {params.bias.dtype}, want float32, the one dtype of jax.experimental.rnn")
    check_layer_widths(layers)
    kernels = [kernel.T.reshape(-1) for params in directions for kernel in params[:2]]
    biases = [bias for params in directions for bias in (params.bias, jnp.zeros_like(params.bias))]
    return jnp.concatenate(kernels + biases)
