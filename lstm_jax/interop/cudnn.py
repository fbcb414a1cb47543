"""cuDNN: the one flat vector that ``jax.experimental.rnn`` takes, for LSTMs with layers and directions.

All kernels first: ``weight_ih`` and ``weight_hh`` of layer 0 forward, layer 0 reverse, layer 1 forward and so on, in
PyTorch's shapes and gate order; then all biases in the same order, ``bias_ih`` and ``bias_hh``. We keep the sum of the
two and write it back as the first, with the second 0. Float32 only, and the width of the output is H.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lstm_jax._core.checks import check_array, check_layers
from lstm_jax._core.structs import Bidirectional, LSTMParams, PyTree
from lstm_jax.interop.arrays import check_chain, to_jax


def import_lstm(
    weights: Any, input_size: int, hidden_size: int, num_layers: int = 1, *, bidirectional: bool = False
) -> tuple[PyTree, ...]:
    """The layers of the vector, for ``lstm_stack``; arguments as for ``jax.experimental.rnn``.

    Raises:
        ValueError: the vector does not have as many numbers as these sizes need.
    """
    weights, directions, rows = to_jax(weights), 2 if bidirectional else 1, 4 * hidden_size
    kernels: list[tuple[int, ...]] = []
    biases: list[tuple[int, ...]] = []
    for layer in range(num_layers):
        inputs = directions * hidden_size if layer else input_size
        kernels += directions * [(rows, inputs), (rows, hidden_size)]
        biases += 2 * directions * [(rows,)]
    sizes = [math.prod(shape) for shape in kernels + biases]
    check_array("weights", weights, (sum(sizes),))
    arrays, start = [], 0
    for shape, size in zip(kernels + biases, sizes, strict=True):
        arrays.append(weights[start : start + size].reshape(shape))
        start += size
    first, second = arrays[: len(kernels)], arrays[len(kernels) :]
    pairs = zip(first[::2], first[1::2], second[::2], second[1::2], strict=True)
    flat = [LSTMParams(w_ih.T, w_hh.T, b_ih + b_hh) for w_ih, w_hh, b_ih, b_hh in pairs]
    return tuple(map(Bidirectional, flat[::2], flat[1::2])) if bidirectional else tuple(flat)


def export_lstm(layers: Sequence[PyTree]) -> jax.Array:
    """The inverse of ``import_lstm``: the flat vector."""
    check_layers(layers)
    flat = [one for both in layers for one in (both if isinstance(both, Bidirectional) else (both,))]
    for params in flat:
        if not isinstance(params, LSTMParams):
            raise ValueError(f"layers: got {type(params).__name__}, want LSTMParams; the binding has no projection")
        if params.bias.dtype != jnp.float32:
            raise ValueError(f"layers: got {params.bias.dtype}, want float32, the one dtype of jax.experimental.rnn")
    check_chain(layers)
    kernels = [kernel.T.reshape(-1) for params in flat for kernel in params[:2]]
    biases = [bias for params in flat for bias in (params.bias, jnp.zeros_like(params.bias))]
    return jnp.concatenate(kernels + biases)
