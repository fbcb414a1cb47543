"""ONNX: exports a stack of layers as a model of ``LSTM`` operators; needs ``pip install 'lstm_jax[interop]'``.

    W [directions, 4H, D]    R [directions, 4H, H]    B [directions, 8H]    gates i, o, f, g

``B`` holds two biases; the export writes the bias of ``LSTMParams`` as the first and 0 as the second. The operator has
the conventions of ``lstm_stack``: time is the first axis, outputs after a sequence's length are 0, and final states are
those of the last valid step. It has no resets, masks or projections.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_jax._core.checks import check_layers
from lstm_jax._core.extras import import_extra
from lstm_jax._core.structs import LSTMParams, PyTree
from lstm_jax.interop.arrays import (
    check_layer_widths,
    directions_of,
    reorder_gates,
    to_numpy,
    unwrap_variables,
)

OPSET_VERSION, IR_VERSION = 18, 9
"""Versions of the operators and of the file format, old enough that runtimes support them."""


def export_lstm(
    layers: Sequence[PyTree], *, use_lengths: bool = False, use_initial_state: bool = False, reverse: bool = False
) -> Any:
    """Creates an ONNX model that computes ``lstm_stack(layers, xs, ...)``.

    The model has the input ``xs [T, B, D]`` and the optional inputs ``lengths [B]``, int32 from 0 to T, and ``h_0`` and
    ``c_0 [layers * directions, B, H]``. It has the outputs ``ys [T, B, directions * H]``, and ``h_n`` and ``c_n`` with
    the shape of ``h_0``. T and B are symbolic dimensions; T is at least 1.

    Args:
        layers: the ``LSTMParams`` of each layer, or a ``Bidirectional`` pair per layer, all of the same H, in float16,
            float32 or float64.
        use_lengths: whether the model has the input ``lengths``; otherwise all T steps are valid.
        use_initial_state: whether the model has the inputs ``h_0`` and ``c_0``; otherwise initial states are 0.
        reverse: whether every layer processes time in reverse; not allowed with ``Bidirectional`` layers.
    Returns:
        an ``onnx.ModelProto``, for ``onnx.save``.
    Raises:
        ValueError: if a layer is not ``LSTMParams`` or ``Bidirectional``, has an unsupported dtype, or differs from the
            others in H or in the number of directions; or if ``reverse`` is combined with ``Bidirectional`` layers.
        ImportError: if onnx is not installed.

    Example:
        >>> import jax, lstm_jax as lj
        >>> model = lj.interop.onnx.export_lstm(lj.init_stack(jax.random.key(0), 3, 8, 2), use_lengths=True)
        >>> [value.name for value in model.graph.input]
        ['xs', 'lengths']
    """
    onnx = import_extra("onnx", "interop")
    check_layers(layers)
    layers = unwrap_variables(layers)
    weights = [_make_layer_weights(layer_index, params) for layer_index, params in enumerate(layers)]
    num_directions, _, hidden_size = weights[0]["R"].shape
    if any(tensors["R"].shape != weights[0]["R"].shape for tensors in weights):
        raise ValueError("layers: got layers of different widths or directions, want one of each")
    check_layer_widths(layers)
    if reverse and num_directions == 2:
        raise ValueError("reverse: got True, but the layers are Bidirectional and read both ways; want False")
    state_shape = [len(layers) * num_directions, "B", hidden_size]
    input_shapes = {"xs": ["T", "B", weights[0]["W"].shape[-1]]}
    input_shapes |= {"h_0": state_shape, "c_0": state_shape} if use_initial_state else {}
    dtype = onnx.helper.np_dtype_to_tensor_dtype(weights[0]["W"].dtype)
    make_info = onnx.helper.make_tensor_value_info
    inputs = [make_info(name, dtype, shape) for name, shape in input_shapes.items()]
    if use_lengths:
        inputs.append(make_info("lengths", onnx.TensorProto.INT32, ["B"]))
    outputs = [make_info("ys", dtype, ["T", "B", num_directions * hidden_size])]
    outputs += [make_info(name, dtype, state_shape) for name in ("h_n", "c_n")]
    direction = "bidirectional" if num_directions == 2 else "reverse" if reverse else "forward"
    nodes = _make_state_split_nodes(onnx, len(layers)) if use_initial_state else []
    nodes += _make_layer_nodes(onnx, len(layers), hidden_size, direction, use_lengths, use_initial_state)
    nodes += _make_final_state_nodes(onnx, len(layers), keeps_initial_state=use_lengths and use_initial_state)
    graph = onnx.helper.make_graph(nodes, "lstm_stack", inputs, outputs, _make_constants(onnx, weights))
    opset = onnx.helper.make_opsetid("", OPSET_VERSION)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def _make_layer_weights(layer_index: int, layer: PyTree) -> dict[str, np.ndarray]:
    """Returns the tensors ``W``, ``R`` and ``B`` of one layer."""
    weights_by_direction = []
    for params in directions_of(layer):
        if not isinstance(params, LSTMParams):
            raise ValueError(
                f"layers[{layer_index}]: got {type(params).__name__}, want LSTMParams or Bidirectional of two"
            )
        kernel, recurrent_kernel, bias = (reorder_gates(to_numpy(leaf), "ifgo", "iofg") for leaf in params)
        if bias.dtype not in (np.float16, np.float32, np.float64):
            raise ValueError(
                f"layers[{layer_index}]: got {bias.dtype}, want float16, float32 or float64; cast with astype"
            )
        weights_by_direction.append((kernel.T, recurrent_kernel.T, np.concatenate([bias, np.zeros_like(bias)])))
    return {name: np.stack(arrays) for name, arrays in zip("WRB", zip(*weights_by_direction, strict=True), strict=True)}


def _make_constants(onnx: Any, weights: list[dict[str, np.ndarray]]) -> list[Any]:
    """Returns the model's constants: the weights of all layers, and the shapes and axes used by other nodes."""
    constants = {f"{name}_{k}": array for k, tensors in enumerate(weights) for name, array in tensors.items()}
    constants |= {"joined_shape": np.array([0, 0, -1]), "outer_axes": np.array([0, 2])}
    return [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]


def _make_state_split_nodes(onnx: Any, num_layers: int) -> list[Any]:
    """Returns the nodes that split ``h_0`` and ``c_0`` into one state per layer."""
    return [
        onnx.helper.make_node(
            "Split", [name], [f"{name}_{k}" for k in range(num_layers)], axis=0, num_outputs=num_layers
        )
        for name in ("h_0", "c_0")
    ]


def _make_layer_nodes(
    onnx: Any, num_layers: int, hidden_size: int, direction: str, use_lengths: bool, use_initial_state: bool
) -> list[Any]:
    """Returns the nodes of all layers; outputs ``[T, directions, B, H]`` are reshaped to ``[T, B, directions * H]``."""
    make_node = onnx.helper.make_node
    nodes = []
    for k in range(num_layers):
        layer_input = f"ys_{k - 1}" if k else "xs"
        layer_output = f"ys_{k}" if k + 1 < num_layers else "ys"
        initial_state = [f"h_0_{k}", f"c_0_{k}"] if use_initial_state else ["", ""]
        inputs = [layer_input, f"W_{k}", f"R_{k}", f"B_{k}", "lengths" if use_lengths else "", *initial_state]
        outputs = [f"by_direction_{k}", f"h_n_{k}", f"c_n_{k}"]
        nodes.append(make_node("LSTM", inputs, outputs, hidden_size=hidden_size, direction=direction))
        nodes.append(make_node("Transpose", [f"by_direction_{k}"], [f"batch_first_{k}"], perm=[0, 2, 1, 3]))
        nodes.append(make_node("Reshape", [f"batch_first_{k}", "joined_shape"], [layer_output]))
    return nodes


def _make_final_state_nodes(onnx: Any, num_layers: int, *, keeps_initial_state: bool) -> list[Any]:
    """Returns the nodes that concatenate the final states of all layers to ``h_n`` and ``c_n``.

    A runtime may return 0 as the final state of a sequence of length 0. With ``keeps_initial_state`` the final state of
    such a sequence is the initial state, as in ``lstm_stack``.
    """
    make_node = onnx.helper.make_node
    nodes = []
    if keeps_initial_state:
        nodes.append(make_node("Cast", ["lengths"], ["is_positive"], to=onnx.TensorProto.BOOL))
        nodes.append(make_node("Unsqueeze", ["is_positive", "outer_axes"], ["has_steps"]))
    for name in ("h", "c"):
        joined = f"{name}_joined" if keeps_initial_state else f"{name}_n"
        nodes.append(make_node("Concat", [f"{name}_n_{k}" for k in range(num_layers)], [joined], axis=0))
        if keeps_initial_state:
            nodes.append(make_node("Where", ["has_steps", joined, f"{name}_0"], [f"{name}_n"]))
    return nodes
