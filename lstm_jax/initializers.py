"""Initialization schemes of the LSTM (table ``SCHEMES``), its zero state, and initializers shared by all cells.

The forget gate's initial bias is stored in the parameters; the cell adds no constant. A scheme named after a framework
samples from the default distributions of that framework's LSTM layer.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers as jax_init
from jax.typing import DTypeLike

from lstm_jax._core.checks import check_init_args, check_name, check_type
from lstm_jax._core.structs import LSTMParams, LSTMState, PyTree, accumulator_dtype, join_gates, split_gates


class Scheme(NamedTuple):
    """An initialization scheme of the LSTM; its functions work in the accumulator dtype, float32 or float64."""

    init: Callable[[jax.Array, int, int, jnp.dtype], LSTMParams]
    """``init(key, input_size, hidden_size, dtype) -> params``"""
    init_bias: Callable[[jax.Array, jax.Array, int], jax.Array] | None = None
    """``init_bias(key, bias, max_time) -> bias``, which replaces the bias of ``init``; None without ``max_time``"""


def init_params(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    *,
    scheme: str = "orthogonal_per_gate",
    max_time: int | None = None,
    dtype: DTypeLike = jnp.float32,
) -> LSTMParams:
    """Initializes the parameters of one LSTM layer.

    The schemes are, in the form "input kernel; recurrent kernel; bias":

        "orthogonal_per_gate": Glorot uniform; each gate's ``[H, H]`` block orthogonal; forget gate 1, others 0.
        "torch": U(-1/sqrt(H), 1/sqrt(H)) for kernels and biases. The bias is the sum of PyTorch's two biases.
        "keras": Glorot uniform; orthogonal; both of the fused ``[.., 4H]`` matrix; forget gate 1, others 0.
            The rows of the fused matrix are orthonormal, so each gate's block has a spectral norm below 1.
        "flax": LeCun normal; each gate's ``[H, H]`` block orthogonal; all gates 0.
        "haiku": truncated normal with scale 1/sqrt(D + H), for both kernels; forget gate 1, others 0.
        "chrono": as "orthogonal_per_gate", except b_f = log U(1, max_time - 1) and b_i = -b_f, for dependencies
            of up to ``max_time`` steps (Tallec and Ollivier 2018, arXiv:1804.11188).

    Args:
        key: a JAX random key.
        input_size: D, the input features per step.
        hidden_size: H, the hidden size of the layer.
        scheme: the name of a scheme above.
        max_time: the longest dependency in steps, at least 3; required by "chrono", None for all other schemes.
        dtype: dtype of the parameters; half-precision parameters are sampled in float32 and cast.
    Returns:
        LSTMParams: ``input_kernel [D, 4H]``, ``recurrent_kernel [H, 4H]`` and ``bias [4H]``, with the gates in the
        order i, f, g, o.
    Raises:
        ValueError: if a size is below 1, ``scheme`` is unknown, "chrono" has no ``max_time`` of at least 3, or
            another scheme has a ``max_time``.

    Example:
        >>> import jax, lstm_jax as lj
        >>> params = lj.init_params(jax.random.key(0), 3, 8, scheme="chrono", max_time=100)
        >>> params.input_kernel.shape, params.recurrent_kernel.shape
        ((3, 32), (8, 32))
    """
    check_init_args(key, dtype, input_size=input_size, hidden_size=hidden_size)
    check_name("scheme", scheme, tuple(SCHEMES))
    init, init_bias = SCHEMES[scheme]
    if (init_bias is None) != (max_time is None) or (max_time is not None and not 3 <= max_time < np.inf):
        raise ValueError(f"max_time: got {max_time} with scheme {scheme!r}, want 3 or more with 'chrono', else None")
    kernels_key, bias_key = jax.random.split(key)
    params = init(kernels_key, input_size, hidden_size, accumulator_dtype(dtype))
    if init_bias is not None and max_time is not None:
        params = params._replace(bias=init_bias(bias_key, params.bias, max_time))
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


def zero_state(params: LSTMParams, batch_shape: tuple[int, ...] = ()) -> LSTMState:
    """Returns the zero state ``h = c = 0`` of an LSTM layer.

    Args:
        params: parameters of the layer.
        batch_shape: sizes of the batch axes; ``()`` means no batch axis.
    Returns:
        LSTMState: ``h`` and ``c``, each ``[*batch, H]``; h in the dtype of the parameters, c in float32, or in float64
        with float64 parameters.
    Raises:
        ValueError: if ``params`` are not LSTM parameters, or ``batch_shape`` is not a tuple.

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
    """Returns the zero state ``h = c = 0`` of a cell with a ``recurrent_kernel [H, ...]`` and h and c of size H.

    Args:
        params: parameters of the cell.
        batch_shape: sizes of the batch axes; ``()`` means no batch axis.
    Returns:
        LSTMState: ``h`` and ``c``, each ``[*batch, H]``; h in the dtype of the kernel, c in the accumulator dtype.
    """
    kernel = params.recurrent_kernel
    shape = (*batch_shape, kernel.shape[0])
    return LSTMState(jnp.zeros(shape, kernel.dtype), jnp.zeros(shape, accumulator_dtype(kernel.dtype)))


def cell_init(draw: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Decorates a function that samples a cell's parameters: the resulting ``init`` checks its arguments and casts.

    ``draw`` receives the accumulator dtype, float32 or float64; its result is cast to the requested dtype.

    Args:
        draw: ``draw(key, input_size, hidden_size, dtype, *, ...) -> params``, with the cell's options as keywords.
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
    dtype_parameter = signature.parameters["dtype"].replace(kind=inspect.Parameter.KEYWORD_ONLY, default=jnp.float32)
    other_parameters = [parameter for name, parameter in signature.parameters.items() if name != "dtype"]
    init.__signature__ = signature.replace(parameters=[*other_parameters, dtype_parameter])  # type: ignore[attr-defined]
    return init


def init_kernels(
    key: jax.Array, input_size: int, hidden_size: int, dtype: DTypeLike, num_gates: int = 4
) -> tuple[jax.Array, jax.Array]:
    """Initializes the kernels of a gated cell, each gate's block separately: Glorot uniform and orthogonal.

    Args:
        key: a JAX random key.
        input_size: D, the input features per step.
        hidden_size: H, the hidden size.
        dtype: dtype of the kernels.
        num_gates: G, the number of gates.
    Returns:
        (input_kernel, recurrent_kernel): ``[D, GH]`` and ``[H, GH]``.
    """
    input_key, recurrent_key = jax.random.split(key)
    input_kernel = _init_per_gate(jax_init.glorot_uniform(), input_key, (input_size, hidden_size), dtype, num_gates)
    return input_kernel, _init_per_gate(_init_orthogonal, recurrent_key, (hidden_size, hidden_size), dtype, num_gates)


def forget_bias(hidden_size: int, dtype: DTypeLike, gate_order: str = "ifgo") -> jax.Array:
    """Returns a bias that is 1 for the forget gate and 0 for all other gates.

    Args:
        hidden_size: H, the hidden size.
        dtype: dtype of the bias.
        gate_order: one letter for each of the G gates; "f" is the forget gate.
    Returns:
        The bias ``[GH]``.
    """
    return jnp.concatenate([jnp.full(hidden_size, float(gate == "f"), dtype) for gate in gate_order])


def _init_orthogonal_per_gate(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LSTMParams:
    return LSTMParams(*init_kernels(key, input_size, hidden_size, dtype), forget_bias(hidden_size, dtype))


def _init_torch(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LSTMParams:
    keys = jax.random.split(key, 4)
    bound = hidden_size**-0.5
    slab_size = 4 * hidden_size

    def init_uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    input_kernel = init_uniform(keys[0], (input_size, slab_size))
    recurrent_kernel = init_uniform(keys[1], (hidden_size, slab_size))
    bias = init_uniform(keys[2], (slab_size,)) + init_uniform(keys[3], (slab_size,))
    return LSTMParams(input_kernel, recurrent_kernel, bias)


def _init_keras(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LSTMParams:
    input_key, recurrent_key = jax.random.split(key)
    input_kernel = jax_init.glorot_uniform()(input_key, (input_size, 4 * hidden_size), dtype)
    recurrent_kernel = _init_orthogonal(recurrent_key, (hidden_size, 4 * hidden_size), dtype)
    return LSTMParams(input_kernel, recurrent_kernel, forget_bias(hidden_size, dtype))


def _init_flax(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LSTMParams:
    input_key, recurrent_key = jax.random.split(key)
    input_kernel = _init_per_gate(jax_init.lecun_normal(), input_key, (input_size, hidden_size), dtype)
    recurrent_kernel = _init_per_gate(_init_orthogonal, recurrent_key, (hidden_size, hidden_size), dtype)
    return LSTMParams(input_kernel, recurrent_kernel, jnp.zeros(4 * hidden_size, dtype))


def _init_haiku(key: jax.Array, input_size: int, hidden_size: int, dtype: jnp.dtype) -> LSTMParams:
    num_rows = input_size + hidden_size
    kernels = jax_init.truncated_normal(num_rows**-0.5)(key, (num_rows, 4 * hidden_size), dtype)
    return LSTMParams(kernels[:input_size], kernels[input_size:], forget_bias(hidden_size, dtype))


def _init_orthogonal(key: jax.Array, shape: tuple[int, int], dtype: DTypeLike) -> jax.Array:
    """Initializes an orthogonal matrix; ``vmap`` runs the initializations sequentially.

    XLA's batched QR factorization on CPU waits for threads of the pool in which it runs: with two cores a vmapped
    initialization deadlocked in jax 0.10.2; it finished in jax 0.12.0.
    """
    return jax.custom_batching.sequential_vmap(lambda key: jax_init.orthogonal()(key, shape, dtype))(key)


def _init_per_gate(
    init: Callable[..., jax.Array], key: jax.Array, shape: tuple[int, int], dtype: DTypeLike, num_gates: int = 4
) -> jax.Array:
    """Initializes a block of ``shape`` for each gate and concatenates the blocks along the last axis."""
    return jnp.concatenate([init(gate_key, shape, dtype) for gate_key in jax.random.split(key, num_gates)], axis=-1)


def _init_chrono_bias(key: jax.Array, bias: jax.Array, max_time: int) -> jax.Array:
    """Sets the biases of the forget and the input gate: b_f = log U(1, max_time - 1), b_i = -b_f."""
    _, _, g, o = split_gates(bias)
    horizon = jax.random.uniform(key, g.shape, g.dtype, 1.0, max_time - 1.0)
    return join_gates(-jnp.log(horizon), jnp.log(horizon), g, o)


SCHEMES: dict[str, Scheme] = {
    "orthogonal_per_gate": Scheme(_init_orthogonal_per_gate),
    "torch": Scheme(_init_torch),
    "keras": Scheme(_init_keras),
    "flax": Scheme(_init_flax),
    "haiku": Scheme(_init_haiku),
    "chrono": Scheme(_init_orthogonal_per_gate, _init_chrono_bias),
}
"""The schemes of ``init_params`` by name, as described there."""
