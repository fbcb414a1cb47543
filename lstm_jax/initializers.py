"""Named initialisations, and the zero state.

The forget bias is a visible number in the parameters. Schemes called after a framework draw from the same
distributions as that framework's own layer, so a model moves here and starts alike.
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


def init_params(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    *,
    scheme: str = "orthogonal_per_gate",
    max_time: int | None = None,
    dtype: jnp.dtype = jnp.float32,
) -> LSTMParams:
    """Draws the parameters of one LSTM layer.

    Schemes (input kernel; recurrent kernel; bias):
        "orthogonal_per_gate": Glorot uniform; each gate's ``[H, H]`` block orthogonal; forget 1, others 0.
        "torch": U(-1/sqrt(H), 1/sqrt(H)) throughout. The one bias is the sum of torch's two.
        "keras": Glorot uniform and orthogonal, both on the fused ``[.., 4H]`` matrix; forget 1, others 0.
            Rows of the fused matrix are orthonormal, so each gate's own block has a norm below 1.
        "flax": LeCun normal; each gate's block orthogonal; 0.
        "haiku": truncated normal of scale 1/sqrt(D + H) for both kernels; forget 1, others 0.
        "chrono": as "orthogonal_per_gate", but b_f = log U(1, max_time - 1) and b_i = -b_f, so that memories
            last up to ``max_time`` steps (Tallec and Ollivier 2018, arXiv:1804.11188).

    Args:
        key: a JAX random key.
        input_size: ``D``.
        hidden_size: ``H``.
        scheme: one of the names above.
        max_time: longest dependency in steps, at least 3; for "chrono" and only there.
        dtype: of the parameters; half precision is drawn in float32 and cast.
    Raises:
        ValueError: a size below 1, an unknown scheme, or ``max_time`` missing, too small, or without effect.
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
    """The LSTM's state ``h = c = 0``, each ``[*batch, H]``, in the dtypes the layer carries."""
    recurrent = getattr(params, "recurrent_kernel", None)
    if recurrent is None or recurrent.ndim != 2 or recurrent.shape[1] != 4 * recurrent.shape[0]:
        raise ValueError(f"params: got {type(params).__name__}, want those of an LSTM; else see the cell's zero_state")
    check_type("batch_shape", batch_shape, tuple, "for example (32,)")
    return zero_lstm_state(params, batch_shape)


def zero_lstm_state(params: PyTree, batch_shape: tuple[int, ...] = ()) -> LSTMState:
    """The same for every cell whose ``h`` and ``c`` are as wide as its recurrent kernel has rows."""
    kernel = params.recurrent_kernel
    shape = (*batch_shape, kernel.shape[0])
    return LSTMState(jnp.zeros(shape, kernel.dtype), jnp.zeros(shape, accumulator_dtype(kernel.dtype)))


def cell_init(draw: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Makes a cell's ``init`` of a function that draws parameters in a wide dtype: checks the arguments, casts the
    result.

    Args:
        draw: ``draw(key, input_size, hidden_size, dtype, *, options of the cell) -> params``.
    Returns:
        ``init(key, input_size, hidden_size, *, dtype=float32, options of the cell) -> params``.
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
    others = [one for name, one in signature.parameters.items() if name != "dtype"]
    init.__signature__ = signature.replace(parameters=[*others, by_keyword])  # type: ignore[attr-defined]
    return init


def init_kernels(
    key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype, blocks: int = 4
) -> tuple[jax.Array, jax.Array]:
    """``[D, GH]``, Glorot uniform, and ``[H, GH]``, orthogonal, each block of ``H`` drawn apart: for any cell."""
    input_key, recurrent_key = jax.random.split(key)
    kernel = _per_gate(jax_init.glorot_uniform(), input_key, (inputs, hidden), dtype, blocks)
    return kernel, _per_gate(_orthogonal, recurrent_key, (hidden, hidden), dtype, blocks)


def forget_bias(hidden: int, dtype: jnp.dtype, blocks: str = "ifgo") -> jax.Array:
    """``[GH]``: 1 for the forget gate and 0 for the others."""
    return jnp.concatenate([jnp.full(hidden, float(name == "f"), dtype) for name in blocks])


def _orthogonal_per_gate(key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype) -> LSTMParams:
    return LSTMParams(*init_kernels(key, inputs, hidden, dtype), forget_bias(hidden, dtype))


def _torch(key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype) -> LSTMParams:
    keys = jax.random.split(key, 4)

    def draw(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -(hidden**-0.5), hidden**-0.5)

    bias = draw(keys[2], (4 * hidden,)) + draw(keys[3], (4 * hidden,))
    return LSTMParams(draw(keys[0], (inputs, 4 * hidden)), draw(keys[1], (hidden, 4 * hidden)), bias)


def _keras(key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype) -> LSTMParams:
    input_key, recurrent_key = jax.random.split(key)
    kernel = jax_init.glorot_uniform()(input_key, (inputs, 4 * hidden), dtype)
    recurrent = _orthogonal(recurrent_key, (hidden, 4 * hidden), dtype)
    return LSTMParams(kernel, recurrent, forget_bias(hidden, dtype))


def _flax(key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype) -> LSTMParams:
    input_key, recurrent_key = jax.random.split(key)
    kernel = _per_gate(jax_init.lecun_normal(), input_key, (inputs, hidden), dtype)
    recurrent = _per_gate(_orthogonal, recurrent_key, (hidden, hidden), dtype)
    return LSTMParams(kernel, recurrent, jnp.zeros(4 * hidden, dtype))


def _haiku(key: jax.Array, inputs: int, hidden: int, dtype: jnp.dtype) -> LSTMParams:
    scale = (inputs + hidden) ** -0.5
    both = jax_init.truncated_normal(scale)(key, (inputs + hidden, 4 * hidden), dtype)
    return LSTMParams(both[:inputs], both[inputs:], forget_bias(hidden, dtype))


def _orthogonal(key: jax.Array, shape: tuple[int, int], dtype: jnp.dtype) -> jax.Array:
    """An orthogonal matrix; under ``vmap`` one after another.

    XLA's batched QR factorisation on CPU waits for threads of the pool that it runs in itself: with two cores a vmapped
    initialisation never ended (jax 0.10.2; 0.12.0 ended).
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


def _per_gate(draw: Callable, key: jax.Array, shape: tuple[int, int], dtype: jnp.dtype, blocks: int = 4) -> jax.Array:
    return jnp.concatenate([draw(gate_key, shape, dtype) for gate_key in jax.random.split(key, blocks)], axis=-1)


def _chrono_bias(key: jax.Array, bias: jax.Array, max_time: int) -> jax.Array:
    _, _, g, o = split_gates(bias)
    horizon = jax.random.uniform(key, g.shape, g.dtype, 1.0, max_time - 1.0)
    return join_gates(-jnp.log(horizon), jnp.log(horizon), g, o)
