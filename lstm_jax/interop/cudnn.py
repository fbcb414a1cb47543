"""cuDNN: the one flat vector that ``jax.experimental.rnn`` takes, for LSTMs with layers and directions.

All kernels come first: ``weight_ih`` and ``weight_hh`` of layer 0 forward, layer 0 reverse, layer 1 forward and so on,
in PyTorch's shapes and gate order; then all biases in the same order, ``bias_ih`` and ``bias_hh``. We keep the sum of
the two and write it back as the first, with the second 0. Weights are float32, and the width of the output is H.
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
    """Converts cuDNN's flat vector to layers for ``lstm_stack``.

    Args:
        weights: the vector, as ``jax.experimental.rnn.init_lstm_weight`` draws it.
        input_size: features of an input, D.
        hidden_size: width of each layer and direction, H.
        num_layers: layers on top of each other.
        bidirectional: whether each layer reads in both directions.
    Returns:
        a tuple of ``LSTMParams``, lowest layer first; of ``Bidirectional`` of two if ``bidirectional``.
    Raises:
        ValueError: if the vector does not have as many numbers as these sizes need.

    Example:
        >>> import jax, lstm_jax as lj
        >>> vector = lj.interop.cudnn.export_lstm(lj.init_stack(jax.random.key(0), 3, 8, 2))
        >>> layers = lj.interop.cudnn.import_lstm(vector, input_size=3, hidden_size=8, num_layers=2)
        >>> layers[1].input_kernel.shape
        (8, 32)
    """
    vector, num_directions, rows = to_jax(weights), 2 if bidirectional else 1, 4 * hidden_size
    kernel_shapes: list[tuple[int, ...]] = []
    bias_shapes: list[tuple[int, ...]] = []
    for layer in range(num_layers):
        layer_inputs = num_directions * hidden_size if layer else input_size
        kernel_shapes += num_directions * [(rows, layer_inputs), (rows, hidden_size)]
        bias_shapes += 2 * num_directions * [(rows,)]
    shapes = kernel_shapes + bias_shapes
    check_array("weights", vector, (sum(map(math.prod, shapes)),))
    arrays, start = [], 0
    for shape in shapes:
        end = start + math.prod(shape)
        arrays.append(vector[start:end].reshape(shape))
        start = end
    kernels, biases = arrays[: len(kernel_shapes)], arrays[len(kernel_shapes) :]
    tensors = zip(kernels[::2], kernels[1::2], biases[::2], biases[1::2], strict=True)
    flat = [LSTMParams(w_ih.T, w_hh.T, b_ih + b_hh) for w_ih, w_hh, b_ih, b_hh in tensors]
    return tuple(map(Bidirectional, flat[::2], flat[1::2])) if bidirectional else tuple(flat)


def export_lstm(layers: Sequence[PyTree]) -> jax.Array:
    """Converts layers to cuDNN's flat vector, the inverse of ``import_lstm``.

    Args:
        layers: a tuple of ``LSTMParams`` in float32, or of ``Bidirectional`` of two, all of one width.
    Returns:
        the vector, for ``jax.experimental.rnn.lstm``.
    Raises:
        ValueError: for layers of another kind, dtype or width.

    Example:
        >>> import jax, lstm_jax as lj
        >>> lj.interop.cudnn.export_lstm(lj.init_stack(jax.random.key(0), 3, 8, 1)).shape  # 4 * 8 * (3 + 8 + 2)
        (416,)
    """
    check_layers(layers)
    layers = unwrap_variables(layers)
    flat = [params for layer in layers for params in directions_of(layer)]
    for params in flat:
        if not isinstance(params, LSTMParams):
            raise ValueError(f"layers: got {type(params).__name__}, want LSTMParams; the binding has no projection")
        if params.bias.dtype != jnp.float32:
            raise ValueError(f"layers: got {params.bias.dtype}, want float32, the one dtype of jax.experimental.rnn")
    check_layer_widths(layers)
    kernels = [kernel.T.reshape(-1) for params in flat for kernel in params[:2]]
    biases = [bias for params in flat for bias in (params.bias, jnp.zeros_like(params.bias))]
    return jnp.concatenate(kernels + biases)
