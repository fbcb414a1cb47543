"""Layers on top of each other, and in both directions: compositions of ``unroll``."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstm_jax._core.checks import check_layers
from lstm_jax._core.sequence import lstm, unroll
from lstm_jax._core.structs import Bidirectional, Cell, LSTMParams, PyTree
from lstm_jax.cells import LSTM, PROJECTED_LSTM, ProjectedLSTMParams
from lstm_jax.initializers import init_params

Between = Callable[[int, jax.Array, jax.Array], jax.Array]
"""``between(layer, inputs, outputs) -> inputs of the next layer``"""
RunLayer = Callable[..., tuple[PyTree, jax.Array]]
"""``run_layer(params, xs, initial_state, **options) -> (final_state, ys)``, options of ``unroll``: one direction of a
layer"""


def lstm_stack(
    layers: Sequence[PyTree],
    xs: jax.Array,
    initial_state: Sequence[PyTree] | None = None,
    *,
    between: Between | None = None,
    lengths: jax.Array | None = None,
    mask: jax.Array | None = None,
    resets: jax.Array | None = None,
    reset_state: Sequence[PyTree] | None = None,
    reverse: bool = False,
    remat: str | int | None = None,
    implementation: str | None = None,
) -> tuple[tuple[PyTree, ...], jax.Array]:
    """Runs LSTM layers one on top of the other; every option means what it means for ``lstm``.

        layers = init_stack(key, 40, 256, 2, bidirectional=True)
        final_states, ys = lstm_stack(layers, xs, lengths=lengths)     # ys [T, *batch, 512]

    Args:
        layers: a tuple of parameters, lowest first: ``LSTMParams``, ``ProjectedLSTMParams``, or ``Bidirectional`` of
            two of them, whose outputs are joined on the last axis, forward first. Layers may differ in width.
        xs: ``[T, *batch, D]``.
        initial_state: one state a layer, ``Bidirectional`` for such a layer; None means zeros throughout.
        between: ``between(layer, inputs, outputs)`` returns the inputs of the next layer: dropout, a norm, a
            residual sum. It is called after layer 0, 1, ... but not after the last. None hands on the outputs.
        lengths, mask, resets, remat, implementation: as for ``lstm``, for every layer and direction; projected layers
            have no implementation but "scan".
        reset_state: one state a layer, as ``initial_state``.
        reverse: every layer is read in reverse; not together with ``Bidirectional``.
    Returns:
        (final_states, ys): a tuple with each layer's final state, and the last layer's outputs.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    return run_layers(
        partial(_run_layer, implementation),
        layers,
        xs,
        initial_state,
        reset_state,
        between,
        {"lengths": lengths, "mask": mask, "resets": resets, "reverse": reverse, "remat": remat},
    )


def _run_layer(implementation: str | None, params: PyTree, *arguments: Any, **options: Any) -> tuple[PyTree, jax.Array]:
    """One direction of a layer of an LSTM."""
    if isinstance(params, LSTMParams):
        return lstm(params, *arguments, implementation=implementation, **options)
    if implementation not in (None, "scan"):
        raise ValueError(f"implementation: got {implementation!r} for {type(params).__name__}, want 'scan' or None")
    return unroll(cell_of_params(params), params, *arguments, **options)


def unroll_stack(
    cell: Cell,
    layers: Sequence[PyTree],
    xs: jax.Array,
    initial_state: Sequence[PyTree] | None = None,
    *,
    between: Between | None = None,
    lengths: jax.Array | None = None,
    mask: jax.Array | None = None,
    resets: jax.Array | None = None,
    reset_state: Sequence[PyTree] | None = None,
    reverse: bool = False,
    remat: str | int | None = None,
) -> tuple[tuple[PyTree, ...], jax.Array]:
    """The same as ``lstm_stack`` for layers of any one cell, whose output must be an array."""
    return run_layers(
        partial(unroll, cell),
        layers,
        xs,
        initial_state,
        reset_state,
        between,
        {"lengths": lengths, "mask": mask, "resets": resets, "reverse": reverse, "remat": remat},
    )


def init_stack(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    *,
    bidirectional: bool = False,
    scheme: str = "orthogonal_per_gate",
    max_time: int | None = None,
    dtype: jnp.dtype = jnp.float32,
) -> tuple[PyTree, ...]:
    """Draws LSTM layers of one width, each with a key of its own; options as for ``init_params``."""
    if not isinstance(num_layers, int | np.integer) or num_layers < 1:
        raise ValueError(f"num_layers: got {num_layers!r}, want an integer of at least 1")

    def draw(key: jax.Array, inputs: int) -> LSTMParams:
        return init_params(key, inputs, hidden_size, scheme=scheme, max_time=max_time, dtype=dtype)

    width = 2 * hidden_size if bidirectional else hidden_size
    layers = []
    for layer, layer_key in enumerate(jax.random.split(key, num_layers)):
        inputs = width if layer else input_size
        one = Bidirectional(*(draw(k, inputs) for k in jax.random.split(layer_key))) if bidirectional else None
        layers.append(one or draw(layer_key, inputs))
    return tuple(layers)


def stack_zero_state(
    layers: Sequence[PyTree], batch_shape: tuple[int, ...] = (), cell: Cell | None = None
) -> tuple[PyTree, ...]:
    """The zero state of each layer; ``cell`` for layers that are not LSTMs."""
    check_layers(layers)

    def zero(params: PyTree) -> PyTree:
        if isinstance(params, Bidirectional):
            return Bidirectional(*map(zero, params))
        return (cell or cell_of_params(params)).zero_state(params, batch_shape)

    return tuple(map(zero, layers))


def run_layers(
    run_layer: RunLayer,
    layers: Sequence[PyTree],
    xs: jax.Array,
    initial_state: Sequence[PyTree] | None,
    reset_state: Sequence[PyTree] | None,
    between: Between | None,
    options: dict,
) -> tuple[tuple[PyTree, ...], jax.Array]:
    """The loop over layers, whatever runs one of them: see ``lstm_stack``; ``options`` are those of ``unroll``."""
    check_layers(layers)
    initials = _one_a_layer("initial_state", initial_state, len(layers))
    resets = _one_a_layer("reset_state", reset_state, len(layers))
    finals = []
    for layer, (params, initial, reset) in enumerate(zip(layers, initials, resets, strict=True)):
        final, ys = _layer(run_layer, layer, params, xs, initial, reset, options)
        finals.append(final)
        last = layer == len(layers) - 1
        xs = ys if between is None or last else between(layer, xs, ys)
    return tuple(finals), xs


def _layer(
    run_layer: RunLayer,
    layer: int,
    params: PyTree,
    xs: jax.Array,
    initial: PyTree,
    reset: PyTree,
    options: dict,
) -> tuple[PyTree, jax.Array]:
    """One layer, in one direction or both."""

    def run(params: PyTree, initial: PyTree, reset: PyTree, **options: Any) -> tuple[PyTree, jax.Array]:
        try:
            return run_layer(params, xs, initial, reset_state=reset, **options)
        except ValueError as fault:
            raise ValueError(f"layers[{layer}]: {fault}") from fault

    if not isinstance(params, Bidirectional):
        return run(params, initial, reset, **options)
    if options["reverse"]:
        raise ValueError(f"reverse: got True, but layers[{layer}] is Bidirectional and reads both ways; want False")
    finals, outputs = [], []
    pairs = [
        _both(f"{name} of layer {layer}", state) for name, state in (("initial_state", initial), ("reset_state", reset))
    ]
    for one, start, again, reverse in zip(params, *pairs, (False, True), strict=True):
        final, ys = run(one, start, again, **{**options, "reverse": reverse})
        finals.append(final)
        outputs.append(ys)
    return Bidirectional(*finals), jnp.concatenate(outputs, axis=-1)


def cell_of_params(params: PyTree) -> Cell:
    """The cell that such parameters of an LSTM's layer belong to."""
    return PROJECTED_LSTM if isinstance(params, ProjectedLSTMParams) else LSTM


def _one_a_layer(name: str, states: Sequence[PyTree] | None, count: int) -> Sequence[PyTree]:
    if states is None:
        return [None] * count
    if hasattr(states, "_fields") or not isinstance(states, tuple | list) or len(states) != count:
        got = f"{len(states)} parts" if type(states) in (tuple, list) else type(states).__name__
        raise ValueError(f"{name}: got {got}, want a tuple of {count}, one state a layer")
    return states


def _both(name: str, state: PyTree) -> tuple[PyTree, PyTree]:
    if state is None:
        return None, None
    if not isinstance(state, Bidirectional):
        raise ValueError(f"{name}: got {type(state).__name__}, want Bidirectional(forward, backward)")
    return tuple(state)
