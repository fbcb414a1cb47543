"""PyTorch: state dicts of ``torch.nn.LSTM`` and ``torch.nn.GRU``, with layers, directions and ``proj_size``.

    weight_ih_l{k} [4H, D]    weight_hh_l{k} [4H, H or P]    bias_ih_l{k}, bias_hh_l{k} [4H]    weight_hr_l{k} [P, H]

Names end in ``_reverse`` for the second direction; gates are i, f, g, o, and r, z, n for a GRU. We keep the sum of the
two biases and write it back as ``bias_ih``, with ``bias_hh`` 0. With two biases an optimizer moves their sum by both
gradients, which are equal, so training continues with half the step there.
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
"""The tensors of one layer and direction, by names such as ``"weight_ih"``."""

Place = tuple[int, bool]
"""A layer, and whether it is the second direction."""


def import_lstm(state_dict: Mapping[str, Any], prefix: str = "") -> tuple[PyTree, ...]:
    """Converts the state dict of a ``torch.nn.LSTM`` to layers for ``lstm_stack``.

    Args:
        state_dict: names to tensors or arrays, ``model.state_dict()``; other modules may be beside the LSTM.
        prefix: the text before the LSTM's names, dot included, such as ``"encoder.lstm."``.
    Returns:
        a tuple, lowest layer first, of ``LSTMParams``, or of ``ProjectedLSTMParams`` with ``proj_size``; of
        ``Bidirectional`` of two of them if the module is bidirectional.
    Raises:
        ValueError: for a missing, unexpected or misshapen tensor.

    Example:
        >>> import numpy as np, lstm_jax as lj
        >>> state_dict = {"lstm.weight_ih_l0": np.zeros((32, 3), "f4"), "lstm.weight_hh_l0": np.zeros((32, 8), "f4")}
        >>> (params,) = lj.interop.torch.import_lstm(state_dict, prefix="lstm.")
        >>> params.input_kernel.shape
        (3, 32)
    """
    return _import_layers(state_dict, prefix, 4, _lstm_params)


def import_gru(state_dict: Mapping[str, Any], prefix: str = "") -> tuple[PyTree, ...]:
    """Converts the state dict of a ``torch.nn.GRU`` to layers for ``unroll_stack(cells.GRU, ...)``.

    Of the two biases, b_r and b_z are merged; b_hn stays apart, since the reset gate multiplies it.

    Args:
        state_dict: names to tensors or arrays, ``model.state_dict()``; other modules may be beside the GRU.
        prefix: the text before the GRU's names, dot included.
    Returns:
        a tuple of ``GRUParams``, lowest layer first; of ``Bidirectional`` of two if the module is bidirectional.
    Raises:
        ValueError: for a missing, unexpected or misshapen tensor.

    Example:
        >>> import numpy as np, lstm_jax as lj
        >>> state_dict = {"weight_ih_l0": np.zeros((24, 3), "f4"), "weight_hh_l0": np.zeros((24, 8), "f4")}
        >>> lj.interop.torch.import_gru(state_dict)[0].candidate_bias.shape
        (8,)
    """
    return _import_layers(state_dict, prefix, 3, _gru_params)


def export_lstm(layers: Sequence[PyTree], prefix: str = "", *, bias: bool = True) -> Tensors:
    """Converts layers to the state dict of a ``torch.nn.LSTM``, the inverse of ``import_lstm``.

    Args:
        layers: a tuple of parameters, as for ``lstm_stack``.
        prefix: the text before each name, dot included.
        bias: False for a module without biases, where ours must be 0.
    Returns:
        names to NumPy arrays; ``load_state_dict`` wants each as ``torch.tensor(array)``.
    Raises:
        ValueError: for parameters of another kind, or a bias that has no place.

    Example:
        >>> import jax, lstm_jax as lj
        >>> arrays = lj.interop.torch.export_lstm(lj.init_stack(jax.random.key(0), 3, 8, 1), prefix="lstm.")
        >>> list(arrays)
        ['lstm.weight_ih_l0', 'lstm.weight_hh_l0', 'lstm.bias_ih_l0', 'lstm.bias_hh_l0']
    """
    return _export_layers(layers, prefix, bias, (LSTMParams, ProjectedLSTMParams), _lstm_tensors)


def export_gru(layers: Sequence[PyTree], prefix: str = "", *, bias: bool = True) -> Tensors:
    """Converts layers to the state dict of a ``torch.nn.GRU``: b_r, b_z and b_n in ``bias_ih``, b_hn in ``bias_hh``.

    Args:
        layers: a tuple of ``GRUParams``, or of ``Bidirectional`` of two.
        prefix: the text before each name, dot included.
        bias: False for a module without biases, where ours must be 0.
    Returns:
        names to NumPy arrays; ``load_state_dict`` wants each as ``torch.tensor(array)``.
    Raises:
        ValueError: for parameters of another kind, or a bias that has no place.

    Example:
        >>> import jax, lstm_jax as lj
        >>> arrays = lj.interop.torch.export_gru((lj.cells.GRU.init(jax.random.key(0), 3, 8),))
        >>> arrays["weight_hh_l0"].shape
        (24, 8)
    """
    return _export_layers(layers, prefix, bias, (GRUParams,), _gru_tensors)


def import_state(h: Any, c: Any, *, bidirectional: bool = False) -> tuple[PyTree, ...]:
    """Converts the states ``h_n`` and ``c_n`` of a ``torch.nn.LSTM`` to one state a layer.

    Args:
        h: ``[layers * directions, *batch, H]``, an array or a tensor.
        c: the memory, of the same shape, or with ``proj_size`` of another last axis.
        bidirectional: whether each layer has two directions, forward first.
    Returns:
        a tuple of ``LSTMState``, or of ``Bidirectional`` of two; the memory is at least float32.
    Raises:
        ValueError: for shapes that do not fit each other, or an odd number of states of two directions.

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
    """Converts one state a layer to ``(h_0, c_0)`` for a ``torch.nn.LSTM``, the inverse of ``import_state``.

    Args:
        states: a tuple of ``LSTMState``, or of ``Bidirectional`` of two.
    Returns:
        ``(h, c)``, each ``[layers * directions, *batch, H]`` in the dtype of h: NumPy arrays, or arrays of JAX inside
        a traced function.

    Example:
        >>> import jax, lstm_jax as lj
        >>> layers = lj.init_stack(jax.random.key(0), 3, 8, 2)
        >>> h, c = lj.interop.torch.export_state(lj.stack_zero_state(layers, (5,)))
        >>> h.shape
        (2, 5, 8)
    """
    flat = [direction for state in unwrap_variables(states) for direction in directions_of(state)]
    pair = jnp.stack([state.h for state in flat]), jnp.stack([state.c.astype(state.h.dtype) for state in flat])
    return pair if any(isinstance(leaf, jax.core.Tracer) for leaf in pair) else tuple(map(to_numpy, pair))


def _lstm_params(tensors: Tensors) -> PyTree:
    kernels = tensors["weight_ih"].T, tensors["weight_hh"].T
    bias = tensors["bias_ih"] + tensors["bias_hh"] if "bias_ih" in tensors else None
    bias = bias_or_zeros(bias, kernels[0], kernels[0].shape[-1])
    if "weight_hr" in tensors:
        return ProjectedLSTMParams(*kernels, bias, tensors["weight_hr"].T)
    return LSTMParams(*kernels, bias)


def _lstm_tensors(params: PyTree) -> Tensors:
    tensors = {
        "weight_ih": params.input_kernel.T,
        "weight_hh": params.recurrent_kernel.T,
        "bias_ih": params.bias,
        "bias_hh": np.zeros_like(params.bias),
    }
    return tensors | ({"weight_hr": params.projection.T} if isinstance(params, ProjectedLSTMParams) else {})


def _gru_params(tensors: Tensors) -> GRUParams:
    kernel, recurrent_kernel = tensors["weight_ih"].T, tensors["weight_hh"].T
    size = recurrent_kernel.shape[0]
    b_ih, b_hh = (bias_or_zeros(tensors.get(name), kernel, 3 * size) for name in ("bias_ih", "bias_hh"))
    merged = join_gates([b_ih[: 2 * size] + b_hh[: 2 * size], b_ih[2 * size :]])
    return GRUParams(kernel, recurrent_kernel, merged, b_hh[2 * size :])


def _gru_tensors(params: GRUParams) -> Tensors:
    zeros = np.zeros(2 * params.candidate_bias.shape[0], params.bias.dtype)
    return {
        "weight_ih": params.input_kernel.T,
        "weight_hh": params.recurrent_kernel.T,
        "bias_ih": params.bias,
        "bias_hh": np.concatenate([zeros, params.candidate_bias]),
    }


def _import_layers(
    state_dict: Mapping[str, Any], prefix: str, num_gates: int, build: Callable[[Tensors], PyTree]
) -> tuple[PyTree, ...]:
    tensors_by_place = _group_tensors(state_dict, prefix)
    num_directions = 2 if any(reverse for _, reverse in tensors_by_place) else 1
    num_layers = 1 + max(layer for layer, _ in tensors_by_place)
    places = [(layer, reverse) for layer in range(num_layers) for reverse in (False, True)[:num_directions]]
    present = {name for tensors in tensors_by_place.values() for name in tensors}
    wanted = {"weight_ih", "weight_hh"} | present & {"weight_hr"}
    wanted |= {"bias_ih", "bias_hh"} if present & {"bias_ih", "bias_hh"} else set()
    title = f"state_dict under {prefix!r}"
    keys = [f"{name}{_suffix(*place)}" for place, tensors in tensors_by_place.items() for name in tensors]
    check_keys(title, keys, [f"{name}{_suffix(*place)}" for place in places for name in wanted])
    shapes_of = _shape_table(tensors_by_place[0, False], num_gates, num_directions)
    for place in places:
        for name, tensor in tensors_by_place[place].items():
            check_array(f"state_dict[{f'{prefix}{name}{_suffix(*place)}'!r}]", tensor, shapes_of(place[0])[name])
    built = [to_jax(build(tensors_by_place[place]), title) for place in places]
    return tuple(built) if num_directions == 1 else tuple(map(Bidirectional, built[::2], built[1::2]))


def _group_tensors(state_dict: Mapping[str, Any], prefix: str) -> dict[Place, Tensors]:
    """Returns the tensors under a prefix as NumPy arrays, by layer and direction and then by name."""
    if not isinstance(state_dict, Mapping):
        raise ValueError(f"state_dict: got {type(state_dict).__name__}, want a mapping of names; see state_dict()")
    groups: dict[Place, Tensors] = {}
    for key in [key for key in state_dict if key.startswith(prefix)]:
        match = TENSOR_NAME.fullmatch(key, len(prefix))
        if match is None:
            raise ValueError(
                f"state_dict: got unexpected {key!r} under the prefix {prefix!r}, want plain weights and biases of one "
                f"layer stack, without parametrizations; {_prefix_hint(state_dict)}"
            )
        name, layer, reverse = match.groups()
        groups.setdefault((int(layer), reverse is not None), {})[name] = to_numpy(state_dict[key])
    if not groups:
        raise ValueError(f"state_dict: got no name that begins with prefix {prefix!r}; {_prefix_hint(state_dict)}")
    return groups


def _prefix_hint(state_dict: Mapping[str, Any]) -> str:
    prefixes = sorted(key.removesuffix("weight_ih_l0") for key in state_dict if key.endswith("weight_ih_l0"))
    if not prefixes:
        return "it has no weight_ih_l0 at all"
    return f"prefixes with an LSTM or GRU: {', '.join(map(repr, prefixes))}"


def _shape_table(first: Tensors, num_gates: int, num_directions: int) -> Callable[[int], dict[str, tuple[int, ...]]]:
    """Returns a function from a layer to the shapes of its tensors, given the tensors of the first layer."""
    hidden_size = first["weight_hr" if "weight_hr" in first else "weight_hh"].shape[-1]
    output_size = first["weight_hr"].shape[0] if "weight_hr" in first else hidden_size
    rows = num_gates * hidden_size

    def shapes_of(layer: int) -> dict[str, tuple[int, ...]]:
        input_size = num_directions * output_size if layer else first["weight_ih"].shape[-1]
        return {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, output_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
            "weight_hr": (output_size, hidden_size),
        }

    return shapes_of


def _suffix(layer: int, reverse: bool) -> str:
    return f"_l{layer}" + "_reverse" * reverse


def _export_layers(
    layers: Sequence[PyTree], prefix: str, bias: bool, params_types: tuple, tensors_of: Callable[[PyTree], Tensors]
) -> Tensors:
    check_layers(layers)
    result = {}
    for layer, params_of_layer in enumerate(unwrap_variables(layers)):
        for reverse, params in enumerate(directions_of(params_of_layer)):
            if not isinstance(params, params_types):
                check_type(f"layers[{layer}]", params, params_types[0])
            for name, array in tensors_of(type(params)(*map(to_numpy, params))).items():
                if bias or not name.startswith("bias"):
                    result[f"{prefix}{name}{_suffix(layer, bool(reverse))}"] = np.ascontiguousarray(array)
                else:
                    check_zero_bias(array, "a module with bias=False has none")
    return result
