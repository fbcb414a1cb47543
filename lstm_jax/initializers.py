"""Named initialization schemes of the LSTM, its zero state, and what other cells initialize themselves with.

The forget gate's bias is a visible number in the parameters. A scheme named after a framework draws from the
distributions of that framework's own layer, so a model that moves here starts as it did there.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers as jax_init
from jax.typing import DTypeLike

from lstm_jax._core.checks import check_init_args, check_name, check_type
from lstm_jax._core.structs import LSTMParams, LSTMState, PyTree, accumulator_dtype, join_gates, split_gates

Scheme = Callable[[jax.Array, int, int, jnp.dtype], LSTMParams]
"""``scheme(key, input_size, hidden_size, dtype) -> params``, drawn in the accumulator dtype"""


def init_params(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    *,
    scheme: str = "orthogonal_per_gate",
    max_time: int | None = None,
    dtype: DTypeLike = jnp.float32,
) -> LSTMParams:
    """Draws the parameters of one LSTM layer.

    The schemes, as input kernel; recurrent kernel; bias:

        "orthogonal_per_gate": Glorot uniform; each gate's ``[H, H]`` block orthogonal; forget gate 1, others 0.
        "torch": U(-1/sqrt(H), 1/sqrt(H)) throughout. The bias is the sum of PyTorch's two.
        "keras": Glorot uniform and orthogonal, both of the fused ``[.., 4H]`` matrix; forget gate 1, others 0.
            The rows of the fused matrix are orthonormal, so each gate's own block has a norm below 1.
        "flax": LeCun normal; each gate's block orthogonal; 0.
        "haiku": truncated normal of scale 1/sqrt(D + H) for both kernels; forget gate 1, others 0.
        "chrono": as "orthogonal_per_gate", but b_f = log U(1, max_time - 1) and b_i = -b_f, so that memories
            last up to ``max_time`` steps (Tallec and Ollivier 2018, arXiv:1804.11188).

    Args:
        key: a JAX random key.
        input_size: D, the numbers that the layer reads at a step.
        hidden_size: H, the units of the layer.
        scheme: one of the names above.
        max_time: the longest dependency in steps, at least 3; only for "chrono", which needs it.
        dtype: the dtype of the parameters; half precision is drawn in float32 and cast.
    Returns:
        LSTMParams: ``input_kernel [D, 4H]``, ``recurrent_kernel [H, 4H]`` and ``bias [4H]``, gates in the order i, f,
        g, o.
    Raises:
        ValueError: a size is below 1, the scheme is unknown, or ``max_time`` is missing, too small, or without effect.

    Example:
        >>> import jax, lstm_jax as lj
        >>> params = lj.init_params(jax.random.key(0), 3, 8, scheme="chrono", max_time=100)
        >>> params.input_kernel.shape, params.recurrent_kernel.shape
        ((3, 32), (8, 32))
    """
    check_init_args(key, dtype, input_size=input_size, hidden_size=hidden_size)
    check_name("scheme", scheme, tuple(SCHEMES))
    if (scheme == "chrono") != (max_time is not None) or (max_time is not None and not 3 <= max_time < np.inf):
        raise ValueError(f"max_time: got {max_time} with scheme {scheme!r}, want 3 or more with 'chrono', else None")
    kernels_key, bias_key = jax.random.split(key)
    params = SCHEMES[scheme](kernels_key, input_size, hidden_size, accumulator_dtype(dtype))
    if max_time is not None:
        params = params._replace(bias=_chrono_bias(bias_key, params.bias, max_time))
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


def zero_state(params: LSTMParams, batch_shape: tuple[int, ...] = ()) -> LSTMState:
    """Makes the state ``h = c = 0`` of an LSTM layer.

    Args:
        params: of the layer.
        batch_shape: the batch axes of the state; ``()`` means none.
    Returns:
        LSTMState: ``h`` and ``c``, each ``[*batch, H]``, h in the dtype of the parameters and c in float32, or in
        float64 with float64 parameters.
    Raises:
        ValueError: ``params`` are not those of an LSTM, or ``batch_shape`` is not a tuple.

    Example:
        >>> import jax, lstm_jax as lj
        >>> lj.zero_state(lj.init_params(jax.random.key(0), 3, 8), (2,)).h.shape
        (2, 8)
    """
    recurrent = getattr(params, "recurrent_kernel", None)
    if recurrent is None or recurrent.ndim != 2 or recurrent.shape[1] != 4 * recurrent.shape[0]:
        raise ValueError(f"params: got {type(params).__name__}, want those of an LSTM; else see the cell's zero_state")
    check_type("batch_shape", batch_shape, tuple, "for example (32,)")
    return zero_lstm_state(params, batch_shape)


def zero_lstm_state(params: PyTree, batch_shape: tuple[int, ...] = ()) -> LSTMState:
    """Makes the state ``h = c = 0`` of any cell whose h and c are as wide as its recurrent kernel has rows.

    Args:
        params: of the cell, with a field ``recurrent_kernel [H, ...]``.
        batch_shape: the batch axes of the state; ``()`` means none.
    Returns:
        LSTMState: ``h`` and ``c``, each ``[*batch, H]``; c in the accumulator dtype.
    """
    kernel = params.recurrent_kernel
    shape = (*batch_shape, kernel.shape[0])
    return LSTMState(jnp.zeros(shape, kernel.dtype), jnp.zeros(shape, accumulator_dtype(kernel.dtype)))


def cell_init(draw: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Turns a function that draws a cell's parameters into the cell's ``init``: it adds checks and a cast.

    ``draw`` gets the accumulator dtype, float32 or float64; the result is cast to the dtype that was asked for.

    Args:
        draw: ``draw(key, input_size, hidden_size, dtype, *, ...) -> params``, with options of the cell as keywords.
    Returns:
        ``init(key, input_size, hidden_size, *, dtype=float32, ...) -> params``, with the same options.
    """

    @wraps(draw)
    def init(
        key: jax.Array, input_size: int, hidden_size: int, *, dtype: DTypeLike = jnp.float32, **options: Any
    ) -> PyTree:
        check_init_args(key, dtype, input_size=input_size, hidden_size=hidden_size)
        params = draw(key, input_size, hidden_size, accumulator_dtype(dtype), **options)
        return jax.tree.map(lambda leaf: leaf.astype(dtype), params)

    signature = inspect.signature(draw)
    by_keyword = signature.parameters["dtype"].replace(kind=inspect.Parameter.KEYWORD_ONLY, default=jnp.float32)
    others = [parameter for name, parameter in signature.parameters.items() if name != "dtype"]
    init.__signature__ = signature.replace(parameters=[*others, by_keyword])  # type: ignore[attr-defined]
    return init


def init_kernels(
    key: jax.Array, input_size: int, hidden_size: int, dtype: DTypeLike, num_gates: int = 4
) -> tuple[jax.Array, jax.Array]:
    """Draws the kernels of any cell with gates: Glorot uniform and orthogonal, each gate's block by itself.

    Args:
        key: a JAX random key.
        input_size: D, the numbers that the cell reads at a step.
        hidden_size: H, the width of a gate.
        dtype: the dtype of the kernels.
        num_gates: G, the number of gates.
    Returns:
        (input_kernel, recurrent_kernel): ``[D, GH]`` and ``[H, GH]``.
    """
    input_key, recurrent_key = jax.random.split(key)
    input_kernel = _per_gate(jax_init.glorot_uniform(), input_key, (input_size, hidden_size), dtype, num_gates)
    return input_kernel, _per_gate(_orthogonal, recurrent_key, (hidden_size, hidden_size), dtype, num_gates)


def forget_bias(hidden_size: int, dtype: DTypeLike, gate_order: str = "ifgo") -> jax.Array:
    """Makes a bias that is 1 for the forget gate and 0 for the other gates.

    Args:
        hidden_size: H, the width of a gate.
        dtype: the dtype of the bias.
        gate_order: a letter for each of the G gates, "f" for the forget gate.
    Returns:
        the bias ``[GH]``.
    """
    return jnp.concatenate([jnp.full(hidden_size, float(gate == "f"), dtype) for gate in gate_order])


def _orthogonal_per_gate(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LSTMParams:
    return LSTMParams(*init_kernels(key, input_size, hidden_size, dtype), forget_bias(hidden_size, dtype))


def _torch(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LSTMParams:
    keys, bound, slab_size = jax.random.split(key, 4), hidden_size**-0.5, 4 * hidden_size

    def draw(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    bias = draw(keys[2], (slab_size,)) + draw(keys[3], (slab_size,))
    return LSTMParams(draw(keys[0], (input_size, slab_size)), draw(keys[1], (hidden_size, slab_size)), bias)


def _keras(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LSTMParams:
    input_key, recurrent_key = jax.random.split(key)
    input_kernel = jax_init.glorot_uniform()(input_key, (input_size, 4 * hidden_size), dtype)
    recurrent_kernel = _orthogonal(recurrent_key, (hidden_size, 4 * hidden_size), dtype)
    return LSTMParams(input_kernel, recurrent_kernel, forget_bias(hidden_size, dtype))


def _flax(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LSTMParams:
    input_key, recurrent_key = jax.random.split(key)
    input_kernel = _per_gate(jax_init.lecun_normal(), input_key, (input_size, hidden_size), dtype)
    recurrent_kernel = _per_gate(_orthogonal, recurrent_key, (hidden_size, hidden_size), dtype)
    return LSTMParams(input_kernel, recurrent_kernel, jnp.zeros(4 * hidden_size, dtype))


def _haiku(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LSTMParams:
    rows = input_size + hidden_size
    kernels = jax_init.truncated_normal(rows**-0.5)(key, (rows, 4 * hidden_size), dtype)
    return LSTMParams(kernels[:input_size], kernels[input_size:], forget_bias(hidden_size, dtype))


def _orthogonal(key: jax.Array, shape: tuple[int, int], dtype: DTypeLike) -> jax.Array:
    """Draws an orthogonal matrix; under ``vmap`` one matrix after another.

    XLA's batched QR factorization on CPU waits for threads of the pool that it runs in itself: with two cores a vmapped
    initialization never ended (jax 0.10.2; 0.12.0 ended).
    """
    return jax.custom_batching.sequential_vmap(lambda key: jax_init.orthogonal()(key, shape, dtype))(key)


SCHEMES: dict[str, Scheme] = {
    "orthogonal_per_gate": _orthogonal_per_gate,
    "torch": _torch,
    "keras": _keras,
    "flax": _flax,
    "haiku": _haiku,
    "chrono": _orthogonal_per_gate,
}
"""The schemes of ``init_params`` by name; ``init_params`` replaces the bias of "chrono"."""


def _per_gate(
    draw: Callable[..., jax.Array], key: jax.Array, shape: tuple[int, int], dtype: DTypeLike, num_gates: int = 4
) -> jax.Array:
    """Draws ``shape`` for each gate and joins the blocks side by side."""
    return jnp.concatenate([draw(gate_key, shape, dtype) for gate_key in jax.random.split(key, num_gates)], axis=-1)


def _chrono_bias(key: jax.Array, bias: jax.Array, max_time: int) -> jax.Array:
    """Replaces the biases of the input and the forget gate: b_f = log U(1, max_time - 1), b_i = -b_f."""
    _, _, g, o = split_gates(bias)
    horizon = jax.random.uniform(key, g.shape, g.dtype, 1.0, max_time - 1.0)
    return join_gates(-jnp.log(horizon), jnp.log(horizon), g, o)
