"""PyTorch: state dicts of ``torch.nn.LSTM`` and ``torch.nn.GRU``, with layers, directions and ``proj_size``.

    weight_ih_l{k} [4H, D]    weight_hh_l{k} [4H, H or P]    bias_ih_l{k}, bias_hh_l{k} [4H]    weight_hr_l{k} [P, H]

Names of the reverse direction end in ``_reverse``. Gates are i, f, g, o, and r, z, n for a GRU. The import adds the two
biases; the export writes their sum as ``bias_ih`` and 0 as ``bias_hh``. In PyTorch an optimizer updates both biases by
the same gradient, so their sum moves twice as far per step as the single bias of this package.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.checks import check_array, check_layers, check_type
from lstm_jax._core.structs import Bidirectional, LSTMParams, LSTMState, PyTree, accumulator_dtype
from lstm_jax.cells import GRUParams, ProjectedLSTMParams
from lstm_jax.interop.arrays import (
    Array,
    bias_or_zeros,
    check_keys,
    check_zero_bias,
    directions_of,
    join_gates,
    to_jax,
    to_numpy,
    unwrap_variables,
)

TENSOR_NAME = re.compile(r"((?:weight|bias)_(?:ih|hh|hr))_l(\d+)(_reverse)?")

Tensors = dict[str, Array]
"""Tensors of one direction of one layer, by names such as ``"weight_ih"``."""

DirectionKey = tuple[int, bool]
"""``(layer_index, is_reverse)``"""


def import_lstm(state_dict: Mapping[str, Any], prefix: str = "") -> tuple[PyTree, ...]:
    """Converts the state dict of a ``torch.nn.LSTM`` to layers for ``lstm_stack``.

    Args:
        state_dict: tensors or arrays by name, such as ``model.state_dict()``; may contain other modules.
        prefix: the prefix of the LSTM's names including the final dot, such as ``"encoder.lstm."``.
    Returns:
        a tuple with the ``LSTMParams`` or ``ProjectedLSTMParams`` of each layer, lowest first, or a ``Bidirectional``
        pair per layer.
    Raises:
        ValueError: if a tensor is missing, unexpected or has the wrong shape.

    Example:
        >>> import numpy as np, lstm_jax as lj
        >>> state_dict = {"lstm.weight_ih_l0": np.zeros((32, 3), "f4"), "lstm.weight_hh_l0": np.zeros((32, 8), "f4")}
        >>> (params,) = lj.interop.torch.import_lstm(state_dict, prefix="lstm.")
        >>> params.input_kernel.shape
        (3, 32)
    """
    return _import_layers(state_dict, prefix, 4, _make_lstm_params)


def import_gru(state_dict: Mapping[str, Any], prefix: str = "") -> tuple[PyTree, ...]:
    """Converts the state dict of a ``torch.nn.GRU`` to layers for ``unroll_stack(cells.GRU, ...)``.

    The two biases of r and z are added; b_hn stays separate, since the reset gate multiplies it.

    Args:
        state_dict: tensors or arrays by name, such as ``model.state_dict()``; may contain other modules.
        prefix: the prefix of the GRU's names including the final dot.
    Returns:
        a tuple with the ``GRUParams`` of each layer, lowest first, or a ``Bidirectional`` pair per layer.
    Raises:
        ValueError: if a tensor is missing, unexpected or has the wrong shape.

    Example:
        >>> import numpy as np, lstm_jax as lj
        >>> state_dict = {"weight_ih_l0": np.zeros((24, 3), "f4"), "weight_hh_l0": np.zeros((24, 8), "f4")}
        >>> lj.interop.torch.import_gru(state_dict)[0].candidate_bias.shape
        (8,)
    """
    return _import_layers(state_dict, prefix, 3, _make_gru_params)


def export_lstm(layers: Sequence[PyTree], prefix: str = "", *, bias: bool = True) -> Tensors:
    """Converts layers to the state dict of a ``torch.nn.LSTM``: the inverse of ``import_lstm``.

    Args:
        layers: the parameters of each layer, as for ``lstm_stack``.
        prefix: the prefix of each name including the final dot.
        bias: whether the PyTorch module has biases; if False, the biases of ``layers`` must be 0.
    Returns:
        NumPy arrays by name; convert each by ``torch.tensor`` for ``load_state_dict``.
    Raises:
        ValueError: if a layer has the wrong type, or ``bias`` is False and a bias is not 0.

    Example:
        >>> import jax, lstm_jax as lj
        >>> arrays = lj.interop.torch.export_lstm(lj.init_stack(jax.random.key(0), 3, 8, 1), prefix="lstm.")
        >>> list(arrays)
        ['lstm.weight_ih_l0', 'lstm.weight_hh_l0', 'lstm.bias_ih_l0', 'lstm.bias_hh_l0']
    """
    return _export_layers(layers, prefix, bias, (LSTMParams, ProjectedLSTMParams), _make_lstm_tensors)


def export_gru(layers: Sequence[PyTree], prefix: str = "", *, bias: bool = True) -> Tensors:
    """Converts layers to the state dict of a ``torch.nn.GRU``: the inverse of ``import_gru``.

    Args:
        layers: the ``GRUParams`` of each layer, or a ``Bidirectional`` pair per layer.
        prefix: the prefix of each name including the final dot.
        bias: whether the PyTorch module has biases; if False, the biases of ``layers`` must be 0.
    Returns:
        NumPy arrays by name, as from ``export_lstm``: b_r, b_z and b_n in ``bias_ih``, b_hn in ``bias_hh``.
    Raises:
        ValueError: if a layer has the wrong type, or ``bias`` is False and a bias is not 0.

    Example:
        >>> import jax, lstm_jax as lj
        >>> arrays = lj.interop.torch.export_gru((lj.cells.GRU.init(jax.random.key(0), 3, 8),))
        >>> arrays["weight_hh_l0"].shape
        (24, 8)
    """
    return _export_layers(layers, prefix, bias, (GRUParams,), _make_gru_tensors)


def import_state(h: Any, c: Any, *, bidirectional: bool = False) -> tuple[PyTree, ...]:
    """Converts the states ``h_n`` and ``c_n`` of a ``torch.nn.LSTM`` to one state per layer.

    Args:
        h: array or tensor ``[layers * directions, *batch, H]``, whose last axis is P with ``proj_size``.
        c: array or tensor ``[layers * directions, *batch, H]``, the memories.
        bidirectional: whether each layer has two states, forward first.
    Returns:
        a tuple with the ``LSTMState`` of each layer, or a ``Bidirectional`` pair; memories are at least float32.
    Raises:
        ValueError: if the leading axes of ``h`` and ``c`` differ, or ``bidirectional`` with an odd number of states.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> lower, upper = lj.interop.torch.import_state(jnp.zeros((2, 5, 8)), jnp.zeros((2, 5, 8)))
        >>> upper.c.shape
        (5, 8)
    """
    h, c = to_jax((h, c), "h and c")
    if h.shape[:-1] != c.shape[:-1]:
        raise ValueError(f"c: got shape {c.shape}, want {(*h.shape[:-1], 'H')}, as h has {h.shape}")
    if bidirectional and h.shape[0] % 2:
        raise ValueError(f"h: got {h.shape[0]} states, want two a layer, since bidirectional is True")
    states = [LSTMState(*pair) for pair in zip(h, c.astype(accumulator_dtype(c.dtype)), strict=True)]
    return tuple(map(Bidirectional, states[::2], states[1::2])) if bidirectional else tuple(states)


def export_state(states: Sequence[PyTree]) -> tuple[Array, Array]:
    """Converts one state per layer to ``(h_0, c_0)`` of a ``torch.nn.LSTM``: the inverse of ``import_state``.

    Args:
        states: the ``LSTMState`` of each layer, or a ``Bidirectional`` pair per layer.
    Returns:
        ``(h, c)``, each ``[layers * directions, *batch, H]`` in the dtype of h: NumPy arrays, or JAX arrays under jit.

    Example:
        >>> import jax, lstm_jax as lj
        >>> layers = lj.init_stack(jax.random.key(0), 3, 8, 2)
        >>> h, c = lj.interop.torch.export_state(lj.stack_zero_state(layers, (5,)))
        >>> h.shape
        (2, 5, 8)
    """
    direction_states = [direction for state in unwrap_variables(states) for direction in directions_of(state)]
    h = jnp.stack([state.h for state in direction_states])
    c = jnp.stack([state.c.astype(state.h.dtype) for state in direction_states])
    is_traced = any(isinstance(leaf, jax.core.Tracer) for leaf in (h, c))
    return (h, c) if is_traced else (to_numpy(h), to_numpy(c))


def _make_lstm_params(tensors: Tensors) -> PyTree:
    """Converts the tensors of one LSTM direction, adding its two biases."""
    kernel, recurrent_kernel = tensors["weight_ih"].T, tensors["weight_hh"].T
    summed_bias = tensors["bias_ih"] + tensors["bias_hh"] if "bias_ih" in tensors else None
    bias = bias_or_zeros(summed_bias, kernel, kernel.shape[-1])
    if "weight_hr" in tensors:
        return ProjectedLSTMParams(kernel, recurrent_kernel, bias, tensors["weight_hr"].T)
    return LSTMParams(kernel, recurrent_kernel, bias)


def _make_lstm_tensors(params: PyTree) -> Tensors:
    """Returns the tensors of one LSTM direction, with ``bias_hh`` 0."""
    tensors = {
        "weight_ih": params.input_kernel.T,
        "weight_hh": params.recurrent_kernel.T,
        "bias_ih": params.bias,
        "bias_hh": np.zeros_like(params.bias),
    }
    return tensors | ({"weight_hr": params.projection.T} if isinstance(params, ProjectedLSTMParams) else {})


def _make_gru_params(tensors: Tensors) -> GRUParams:
    """Converts the tensors of one GRU direction, adding its two biases of r and z."""
    kernel, recurrent_kernel = tensors["weight_ih"].T, tensors["weight_hh"].T
    hidden_size = recurrent_kernel.shape[0]
    b_ih, b_hh = (bias_or_zeros(tensors.get(name), kernel, 3 * hidden_size) for name in ("bias_ih", "bias_hh"))
    merged = join_gates([b_ih[: 2 * hidden_size] + b_hh[: 2 * hidden_size], b_ih[2 * hidden_size :]])
    return GRUParams(kernel, recurrent_kernel, merged, b_hh[2 * hidden_size :])


def _make_gru_tensors(params: GRUParams) -> Tensors:
    """Returns the tensors of one GRU direction, with ``bias_hh`` 0 except for n."""
    zeros = np.zeros(2 * params.candidate_bias.shape[0], params.bias.dtype)
    return {
        "weight_ih": params.input_kernel.T,
        "weight_hh": params.recurrent_kernel.T,
        "bias_ih": params.bias,
        "bias_hh": np.concatenate([zeros, params.candidate_bias]),
    }


def _import_layers(
    state_dict: Mapping[str, Any], prefix: str, num_gates: int, make_params: Callable[[Tensors], PyTree]
) -> tuple[PyTree, ...]:
    """Checks the names and shapes of all tensors, then converts each direction of each layer by ``make_params``."""
    groups = _group_tensors(state_dict, prefix)
    num_directions = 2 if any(is_reverse for _, is_reverse in groups) else 1
    num_layers = 1 + max(layer_index for layer_index, _ in groups)
    directions = [(k, is_reverse) for k in range(num_layers) for is_reverse in (False, True)[:num_directions]]
    present = {name for tensors in groups.values() for name in tensors}
    expected = {"weight_ih", "weight_hh"} | present & {"weight_hr"}
    expected |= {"bias_ih", "bias_hh"} if present & {"bias_ih", "bias_hh"} else set()
    title = f"state_dict under {prefix!r}"
    keys = [f"{name}{_suffix(*direction)}" for direction, tensors in groups.items() for name in tensors]
    check_keys(title, keys, [f"{name}{_suffix(*direction)}" for direction in directions for name in expected])
    for direction in directions:
        shapes = _expected_shapes(direction[0], groups[0, False], num_gates, num_directions)
        for name, tensor in groups[direction].items():
            check_array(f"state_dict[{f'{prefix}{name}{_suffix(*direction)}'!r}]", tensor, shapes[name])
    built = [to_jax(make_params(groups[direction]), title) for direction in directions]
    return tuple(built) if num_directions == 1 else tuple(map(Bidirectional, built[::2], built[1::2]))


def _group_tensors(state_dict: Mapping[str, Any], prefix: str) -> dict[DirectionKey, Tensors]:
    """Returns the NumPy arrays of all tensors under a prefix, grouped by layer and direction, then by name."""
    if not isinstance(state_dict, Mapping):
        raise ValueError(f"state_dict: got {type(state_dict).__name__}, want a mapping of names; see state_dict()")
    groups: dict[DirectionKey, Tensors] = {}
    for key in [key for key in state_dict if key.startswith(prefix)]:
        match = TENSOR_NAME.fullmatch(key, len(prefix))
        if match is None:
            raise ValueError(
                f"state_dict: got unexpected {key!r} under the prefix {prefix!r}, want plain weights and biases of one "
                f"layer stack, without parametrizations; {_prefix_hint(state_dict)}"
            )
        name, layer_index, reverse_suffix = match.groups()
        groups.setdefault((int(layer_index), reverse_suffix is not None), {})[name] = to_numpy(state_dict[key])
    if not groups:
        raise ValueError(f"state_dict: got no name that begins with prefix {prefix!r}; {_prefix_hint(state_dict)}")
    return groups


def _prefix_hint(state_dict: Mapping[str, Any]) -> str:
    """Returns the part of an error message that lists the prefixes of all recurrent modules in a state dict."""
    prefixes = sorted(key.removesuffix("weight_ih_l0") for key in state_dict if key.endswith("weight_ih_l0"))
    if not prefixes:
        return "it has no weight_ih_l0 at all"
    return f"prefixes with an LSTM or GRU: {', '.join(map(repr, prefixes))}"


def _expected_shapes(
    layer_index: int, first_layer: Tensors, num_gates: int, num_directions: int
) -> dict[str, tuple[int, ...]]:
    """Returns the expected shapes of a layer's tensors, given those of the first layer."""
    hidden_size = first_layer["weight_hr" if "weight_hr" in first_layer else "weight_hh"].shape[-1]
    output_size = first_layer["weight_hr"].shape[0] if "weight_hr" in first_layer else hidden_size
    input_size = num_directions * output_size if layer_index else first_layer["weight_ih"].shape[-1]
    num_rows = num_gates * hidden_size
    shapes = {"weight_ih": (num_rows, input_size), "weight_hh": (num_rows, output_size)}
    return shapes | {"bias_ih": (num_rows,), "bias_hh": (num_rows,), "weight_hr": (output_size, hidden_size)}


def _suffix(layer_index: int, is_reverse: bool) -> str:
    return f"_l{layer_index}" + ("_reverse" if is_reverse else "")


def _export_layers(
    layers: Sequence[PyTree], prefix: str, bias: bool, params_types: tuple, make_tensors: Callable[[PyTree], Tensors]
) -> Tensors:
    """Converts each direction of each layer by ``make_tensors`` and names the tensors as PyTorch does."""
    check_layers(layers)
    state_dict = {}
    for layer_index, layer in enumerate(unwrap_variables(layers)):
        for is_reverse, params in zip((False, True), directions_of(layer), strict=False):
            if not isinstance(params, params_types):
                check_type(f"layers[{layer_index}]", params, params_types[0])
            host_params = type(params)(*map(to_numpy, params))
            for name, array in make_tensors(host_params).items():
                if bias or not name.startswith("bias"):
                    state_dict[f"{prefix}{name}{_suffix(layer_index, is_reverse)}"] = np.ascontiguousarray(array)
                else:
                    check_zero_bias(array, "a module with bias=False has none")
    return state_dict
