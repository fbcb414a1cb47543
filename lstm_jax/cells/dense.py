"""The dense layer that the cells share."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lstm_jax._core.structs import accumulator_dtype


class KernelWithTranspose(NamedTuple):
    """A kernel with its transposed copy, made once so that the loops of both directions read along memory.

    Transposed in the backward loop itself, the product of each step is slower: 172 against 147 us at B=32 H=256, 53
    against 45 at B=32 H=128, 5.5 against 3.8 at B=8 H=64 (two x86 cores, Zen 4, jax 0.10.2).
    """

    kernel: jax.Array
    """``[N, M]``"""
    transposed: jax.Array
    """``[M, N]``, equal to ``kernel.T``, as are their tangents"""


def prepare_kernel(params: Any, names: tuple[str, ...] = ("recurrent_kernel",)) -> Any:
    """The parameters with transposed copies of these kernels: what a cell prepares before its loop."""
    return params._replace(**{name: _with_transpose(getattr(params, name)) for name in names})


def add_bias(z: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds a bias: ``z [..., M] + bias [M]``, in the dtype of ``z``."""
    return z + lax.broadcast_to_rank(bias.astype(z.dtype), z.ndim)


def matmul(x: jax.Array, kernel: jax.Array | KernelWithTranspose) -> jax.Array:
    """The matrix product ``x [..., N] @ kernel [N, M] -> [..., M]`` for a cell, whose weight gradient is a plain
    product.

    Args:
        x: ``[..., N]``, any leading axes.
        kernel: ``[N, M]``; in a cell that has ``prepare``, with its transposed copy.
    Returns:
        ``[..., M]``, summed and returned in the accumulator dtype: float32, or float64 for float64.
    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> lj.cells.matmul(jnp.ones((5, 2, 3)), jnp.ones((3, 4))).shape
        (5, 2, 4)
    """
    return _product(False, x, kernel if isinstance(kernel, KernelWithTranspose) else _with_transpose(kernel))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _product(tangent: bool, x: jax.Array, kernel: KernelWithTranspose) -> jax.Array:
    """The product; for a tangent through the transposed copy, since its own transpose then reads along memory."""
    dtype = accumulator_dtype(x.dtype)
    factor, axis = (kernel.transposed, 1) if tangent else (kernel.kernel, 0)
    return lax.dot_general(x, factor, (((x.ndim - 1,), (axis,)), ((), ())), preferred_element_type=dtype)


def _product_tangent(tangent: bool, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """``dx @ kernel + x @ dkernel``, the second in rows: its transpose, the weight gradient, is then one plain
    product over rows. Contracting over several axes at once, XLA falls back to a slower product: training step at
    T=128 B=64 D=H=512, two x86 cores, jax 0.10.2, 646 ms against 567 to 617 ms.

    Time becomes the innermost axis of the rows. Merged the other way, a batch axis sharded over devices would no
    longer be a block of rows, and each device would gather the whole batch.
    """
    (x, kernel), (dx, dkernel) = primals, tangents
    dfactor = dkernel.transposed if tangent else dkernel.kernel
    terms = []
    if not isinstance(dx, jax.custom_derivatives.SymbolicZero):
        terms.append(_product(True, dx, kernel))
    if not isinstance(dfactor, jax.custom_derivatives.SymbolicZero):
        time_inner = jnp.moveaxis(x, 0, -2) if x.ndim > 1 else x
        num_rows = math.prod(time_inner.shape[:-1])
        direction = dfactor.T if tangent else dfactor
        rows = matmul(time_inner.reshape(num_rows, x.shape[-1]), direction)
        rows = rows.reshape(*time_inner.shape[:-1], direction.shape[-1])
        terms.append(jnp.moveaxis(rows, -2, 0) if x.ndim > 1 else rows)
    return _product(tangent, x, kernel), sum(terms[1:], terms[0])


_product.defjvp(_product_tangent, symbolic_zeros=True)


def _with_transpose(kernel: jax.Array) -> KernelWithTranspose:
    return KernelWithTranspose(kernel, kernel.T)
