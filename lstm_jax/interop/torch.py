"""PyTorch: state dicts of ``torch.nn.LSTM`` and ``torch.nn.GRU``, with layers, directions and ``proj_size``.

    weight_ih_l{k} [4H, D]    weight_hh_l{k} [4H, H or P]    bias_ih_l{k}, bias_hh_l{k} [4H]    weight_hr_l{k} [P, H]

with the suffix ``_reverse`` for the second direction; gates i, f, g, o, and r, z, n for a GRU. We keep the sum of the
two biases and write it back as ``bias_ih``, with ``bias_hh`` 0. With two biases an optimiser moves their sum by both
gradients, which are equal, so training goes on with half the step there.
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
    check_droppable,
    check_keys,
    concatenate,
    to_jax,
    to_numpy,
    zeros_if_missing,
)

NAME = re.compile(r"((?:weight|bias)_(?:ih|hh|hr))_l(\d+)(_reverse)?")


def import_lstm(state_dict: Mapping[str, Any], prefix: str = "") -> tuple[PyTree, ...]:
    """The layers of a ``torch.nn.LSTM``, for ``lstm_stack``.

        layers = lj.interop.torch.import_lstm(model.state_dict(), prefix="encoder.lstm.")
        final_states, ys = lj.lstm_stack(layers, xs)

    Args:
        state_dict: names to tensors or arrays, possibly with other modules beside the LSTM.
        prefix: what the LSTM's names begin with, dot included.
    Returns:
        A tuple, lowest layer first, of ``LSTMParams`` or, with ``proj_size``, ``ProjectedLSTMParams``, or of
        ``Bidirectional`` with two of them.
    Raises:
        ValueError: naming a missing, unexpected or misshapen tensor.
    """
    return _import(state_dict, prefix, 4, _lstm_params)


def import_gru(state_dict: Mapping[str, Any], prefix: str = "") -> tuple[PyTree, ...]:
    """The layers of a ``torch.nn.GRU``, for ``unroll_stack(cells.GRU, ...)``; as ``import_lstm``.

    b_r and b_z of both biases are merged; ``b_hn`` stays apart, since the reset gate multiplies it.
    """
    return _import(state_dict, prefix, 3, _gru_params)


def export_lstm(layers: Sequence[PyTree], prefix: str = "", *, bias: bool = True) -> dict[str, Array]:
    """The inverse of ``import_lstm``: names to NumPy arrays for ``load_state_dict``.

        tensors = {name: torch.tensor(array) for name, array in export_lstm(layers).items()}

    Args:
        layers: a tuple of parameters, as for ``lstm_stack``.
        prefix: what each name begins with.
        bias: False for a module without biases, if ours are 0.
    """
    return _export(layers, prefix, bias, (LSTMParams, ProjectedLSTMParams), _lstm_tensors)


def export_gru(layers: Sequence[PyTree], prefix: str = "", *, bias: bool = True) -> dict[str, Array]:
    """The inverse of ``import_gru``, as ``export_lstm``: b_r, b_z and b_n in ``bias_ih``, b_hn in ``bias_hh``."""
    return _export(layers, prefix, bias, (GRUParams,), _gru_tensors)


def import_state(h: Any, c: Any, *, bidirectional: bool = False) -> tuple[PyTree, ...]:
    """``h_n`` and ``c_n``, ``[layers * directions, *batch, H]``, to one state a layer, its memory at least float32."""
    h, c = to_jax((h, c), "h and c")
    if h.shape[:-1] != c.shape[:-1]:
        raise ValueError(f"c: got shape {c.shape}, want {(*h.shape[:-1], 'H')}, as h has {h.shape}")
    if bidirectional and h.shape[0] % 2:
        raise ValueError(f"h: got {h.shape[0]} states, want two a layer, since bidirectional is True")
    states = [LSTMState(*pair) for pair in zip(h, c.astype(accumulator_dtype(c.dtype)), strict=True)]
    return tuple(map(Bidirectional, states[::2], states[1::2])) if bidirectional else tuple(states)


def export_state(states: Sequence[PyTree]) -> tuple[Array, Array]:
    """The inverse of ``import_state``: ``(h_0, c_0)`` for a call of the module, both in the dtype of h."""
    flat = [one for state in states for one in (state if isinstance(state, Bidirectional) else (state,))]
    pair = jnp.stack([state.h for state in flat]), jnp.stack([state.c.astype(state.h.dtype) for state in flat])
    return pair if any(isinstance(leaf, jax.core.Tracer) for leaf in pair) else tuple(map(to_numpy, pair))


def _lstm_params(parts: dict[str, Array]) -> PyTree:
    kernels = parts["weight_ih"].T, parts["weight_hh"].T
    bias = parts["bias_ih"] + parts["bias_hh"] if "bias_ih" in parts else None
    bias = zeros_if_missing(bias, kernels[0], kernels[0].shape[-1])
    return (
        ProjectedLSTMParams(*kernels, bias, parts["weight_hr"].T)
        if "weight_hr" in parts
        else LSTMParams(*kernels, bias)
    )


def _lstm_tensors(params: PyTree) -> dict[str, Array]:
    tensors = {
        "weight_ih": params.input_kernel.T,
        "weight_hh": params.recurrent_kernel.T,
        "bias_ih": params.bias,
        "bias_hh": np.zeros_like(params.bias),
    }
    return tensors | ({"weight_hr": params.projection.T} if isinstance(params, ProjectedLSTMParams) else {})


def _gru_params(parts: dict[str, Array]) -> GRUParams:
    kernel, recurrent = parts["weight_ih"].T, parts["weight_hh"].T
    size = recurrent.shape[0]
    bias, other = (zeros_if_missing(parts.get(name), kernel, 3 * size) for name in ("bias_ih", "bias_hh"))
    merged = concatenate([bias[: 2 * size] + other[: 2 * size], bias[2 * size :]])
    return GRUParams(kernel, recurrent, merged, other[2 * size :])


def _gru_tensors(params: GRUParams) -> dict[str, Array]:
    zeros = np.zeros(2 * params.candidate_bias.shape[0], params.bias.dtype)
    return {
        "weight_ih": params.input_kernel.T,
        "weight_hh": params.recurrent_kernel.T,
        "bias_ih": params.bias,
        "bias_hh": np.concatenate([zeros, params.candidate_bias]),
    }


def _import(state_dict: Mapping[str, Any], prefix: str, gates: int, build: Callable) -> tuple[PyTree, ...]:
    parts = _sort(state_dict, prefix)
    directions = 2 if any(reverse for _, reverse in parts) else 1
    optional = {name for tensors in parts.values() for name in tensors} & {"bias_ih", "bias_hh", "weight_hr"}
    kinds = (
        {"weight_ih", "weight_hh"} | optional | ({"bias_ih", "bias_hh"} if optional & {"bias_ih", "bias_hh"} else set())
    )
    count = 1 + max(layer for layer, _ in parts)
    places = [(layer, reverse) for layer in range(count) for reverse in (False, True)[:directions]]
    got = [f"{name}{_suffix(*place)}" for place, tensors in parts.items() for name in tensors]
    check_keys(f"state_dict under {prefix!r}", got, [f"{name}{_suffix(*place)}" for place in places for name in kinds])
    for place in places:
        _check(parts[place], prefix, place, gates, parts[0, False], directions)
    built = [to_jax(build(parts[place]), f"state_dict under {prefix!r}") for place in places]
    return tuple(built) if directions == 1 else tuple(map(Bidirectional, built[::2], built[1::2]))


def _sort(state_dict: Mapping[str, Any], prefix: str) -> dict[tuple[int, bool], dict[str, Array]]:
    """(layer, reverse) to the tensors there, by name."""
    if not isinstance(state_dict, Mapping):
        raise ValueError(f"state_dict: got {type(state_dict).__name__}, want a mapping of names; see state_dict()")
    found: dict[tuple[int, bool], dict[str, Array]] = {}
    for key in [key for key in state_dict if key.startswith(prefix)]:
        match = NAME.fullmatch(key, len(prefix))
        if match is None:
            raise ValueError(
                f"state_dict: got unexpected {key!r} under the prefix {prefix!r}, want plain weights and biases of one "
                f"layer stack, without parametrizations; {_advice(state_dict)}"
            )
        kind, layer, reverse = match.groups()
        found.setdefault((int(layer), reverse is not None), {})[kind] = to_numpy(state_dict[key])
    if not found:
        raise ValueError(f"state_dict: got no name that begins with prefix {prefix!r}; {_advice(state_dict)}")
    return found


def _advice(state_dict: Mapping[str, Any]) -> str:
    known = sorted(key.removesuffix("weight_ih_l0") for key in state_dict if key.endswith("weight_ih_l0"))
    return f"prefixes with an LSTM or GRU: {', '.join(map(repr, known))}" if known else "it has no weight_ih_l0 at all"


def _check(
    tensors: dict[str, Array], prefix: str, place: tuple[int, bool], gates: int, first: dict, directions: int
) -> None:
    """Shapes, given those of the first layer."""
    hidden = first["weight_hr" if "weight_hr" in first else "weight_hh"].shape[-1]
    width = first["weight_hr"].shape[0] if "weight_hr" in first else hidden
    inputs = directions * width if place[0] else first["weight_ih"].shape[-1]
    shapes = {
        "weight_ih": (gates * hidden, inputs),
        "weight_hh": (gates * hidden, width),
        "bias_ih": (gates * hidden,),
        "bias_hh": (gates * hidden,),
        "weight_hr": (width, hidden),
    }
    for kind, tensor in tensors.items():
        check_array(f"state_dict[{f'{prefix}{kind}{_suffix(*place)}'!r}]", tensor, shapes[kind])


def _suffix(layer: int, reverse: bool) -> str:
    return f"_l{layer}" + "_reverse" * reverse


def _export(layers: Sequence[PyTree], prefix: str, bias: bool, kinds: tuple, tensors: Callable) -> dict[str, Array]:
    check_layers(layers)
    result = {}
    for layer, both in enumerate(layers):
        directions = both if isinstance(both, Bidirectional) else (both,)
        for reverse, params in enumerate(directions):
            if not isinstance(params, kinds):
                check_type(f"layers[{layer}]", params, kinds[0])
            host = type(params)(*map(to_numpy, params))
            for name, array in tensors(host).items():
                if bias or not name.startswith("bias"):
                    result[f"{prefix}{name}{_suffix(layer, bool(reverse))}"] = np.ascontiguousarray(array)
                else:
                    check_droppable(array, "a module with bias=False has none")
    return result
