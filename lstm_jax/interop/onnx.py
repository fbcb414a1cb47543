"""ONNX: a model of ``LSTM`` operators from a stack of layers; needs the package ``onnx``.

    W [directions, 4H, D]    R [directions, 4H, H]    B [directions, 8H]    gates i, o, f, g

``B`` holds two biases; ours is the first and the second is 0. Time comes first, as here, outputs of steps that are not
taken are 0, and final states are those of the last step taken: the operator's meaning is ours. It has no resets, no
masks and no projection.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_jax._core.checks import check_layers
from lstm_jax._core.structs import Bidirectional, LSTMParams, PyTree
from lstm_jax.interop.arrays import check_chain, reorder, to_numpy

OPSET, IR_VERSION = 18, 9
"""Versions of the operators and of the file format: two years old, so that runtimes know them."""


def export_lstm(
    layers: Sequence[PyTree], *, lengths: bool = False, initial_state: bool = False, reverse: bool = False
) -> Any:
    """An ONNX model that computes ``lstm_stack(layers, ...)``.

        onnx.save(lj.interop.onnx.export_lstm(layers, lengths=True), "lstm.onnx")

    Inputs: ``xs [T, B, D]``; ``lengths [B]``, int32, 0 to T; ``h_0`` and ``c_0``, ``[layers * directions, B, H]``.
    Outputs: ``ys [T, B, directions * H]``; ``h_n`` and ``c_n``, as ``h_0``. T and B are free, T at least 1.

    Args:
        layers: a tuple of ``LSTMParams``, or of ``Bidirectional`` of two, of one width H; float32, float16 or float64.
        lengths: whether the model has this input.
        initial_state: whether it has ``h_0`` and ``c_0``; else they are 0.
        reverse: as for ``lstm_stack``.
    Returns:
        An ``onnx.ModelProto``.
    """
    from onnx import TensorProto, checker, helper

    check_layers(layers)
    stack = [_tensors(layer, params) for layer, params in enumerate(layers)]
    hidden = stack[0]["R"].shape[-1]
    directions = stack[0]["R"].shape[0]
    if any(tensors["R"].shape != stack[0]["R"].shape for tensors in stack):
        raise ValueError("layers: got layers of different widths or directions, want one of each")
    check_chain(layers)
    if reverse and directions == 2:
        raise ValueError("reverse: got True, but the layers are Bidirectional and read both ways; want False")
    kind = helper.np_dtype_to_tensor_dtype(stack[0]["W"].dtype)
    state = [len(stack) * directions, "B", hidden]
    shapes = {"xs": ["T", "B", stack[0]["W"].shape[-1]]} | ({"h_0": state, "c_0": state} if initial_state else {})
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]))
    outputs = [helper.make_tensor_value_info("ys", kind, ["T", "B", directions * hidden])]
    outputs += [helper.make_tensor_value_info(name, kind, state) for name in ("h_n", "c_n")]
    direction = "bidirectional" if directions == 2 else "reverse" if reverse else "forward"
    nodes = _nodes(len(stack), hidden, direction, lengths, initial_state)
    graph = helper.make_graph(nodes, "lstm_stack", inputs, outputs, _constants(stack))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(model, full_check=True)
    return model


def _tensors(layer: int, params: PyTree) -> dict[str, np.ndarray]:
    """``W, R, B`` of one layer."""
    parts = []
    for one in params if isinstance(params, Bidirectional) else (params,):
        if not isinstance(one, LSTMParams):
            raise ValueError(f"layers[{layer}]: got {type(one).__name__}, want LSTMParams or Bidirectional of two")
        kernel, recurrent, bias = (reorder(to_numpy(leaf), "ifgo", "iofg") for leaf in one)
        if bias.dtype not in (np.float16, np.float32, np.float64):
            raise ValueError(f"layers[{layer}]: got {bias.dtype}, want float16, float32 or float64; cast with astype")
        parts.append((kernel.T, recurrent.T, np.concatenate([bias, np.zeros_like(bias)])))
    return {name: np.stack(arrays) for name, arrays in zip("WRB", zip(*parts, strict=True), strict=True)}


def _constants(stack: list[dict[str, np.ndarray]]) -> list[Any]:
    from onnx import numpy_helper

    named = {f"{name}_{k}": array for k, tensors in enumerate(stack) for name, array in tensors.items()}
    shapes = {"joined": np.array([0, 0, -1]), "ends": np.array([0, 2])}
    return [numpy_helper.from_array(array, name) for name, array in (named | shapes).items()]


def _nodes(count: int, hidden: int, direction: str, lengths: bool, initial_state: bool) -> list[Any]:
    """The layers; between two of them ``[T, directions, B, H]`` becomes ``[T, B, directions * H]``."""
    from onnx import TensorProto
    from onnx.helper import make_node

    nodes = []
    for name in ("h_0", "c_0") if initial_state else ():
        nodes.append(make_node("Split", [name], [f"{name}_{k}" for k in range(count)], axis=0, num_outputs=count))
    for k in range(count):
        below, above = f"ys_{k - 1}" if k else "xs", f"ys_{k}" if k + 1 < count else "ys"
        start = [f"h_0_{k}", f"c_0_{k}"] if initial_state else ["", ""]
        taken = [below, f"W_{k}", f"R_{k}", f"B_{k}", "lengths" if lengths else "", *start]
        given = [f"apart_{k}", f"h_n_{k}", f"c_n_{k}"]
        nodes.append(make_node("LSTM", taken, given, hidden_size=hidden, direction=direction))
        nodes.append(make_node("Transpose", [f"apart_{k}"], [f"beside_{k}"], perm=[0, 2, 1, 3]))
        nodes.append(make_node("Reshape", [f"beside_{k}", "joined"], [above]))
    keep = lengths and initial_state  # of an empty sequence, whose final state a runtime may return as 0
    for name in ("h", "c"):
        joined = f"{name}_ran" if keep else f"{name}_n"
        nodes.append(make_node("Concat", [f"{name}_n_{k}" for k in range(count)], [joined], axis=0))
        if keep:
            nodes.append(make_node("Where", ["some", joined, f"{name}_0"], [f"{name}_n"]))
    if keep:
        nodes.insert(0, make_node("Unsqueeze", ["flags", "ends"], ["some"]))
        nodes.insert(0, make_node("Cast", ["lengths"], ["flags"], to=TensorProto.BOOL))
    return nodes
