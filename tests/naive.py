"""The masked LSTM as anyone would write it in JAX, one step at a time; plain autodiff is its derivative.

It follows the page of semantics in another way than the library: a flag "a boundary is pending" travels with the
state instead of being worked out beforehand.
"""

import jax
import jax.numpy as jnp


def lstm_step(params, h, c, x):
    kernel, recurrent, bias = params
    a = x @ kernel + h @ recurrent + bias[None]
    i, f, g, o = jnp.split(a, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def lstm(params, xs, initial, reset, taken, resets, reverse):
    """``xs [T, B, D]``, states ``(h, c)`` of ``[B, H]``, flags ``[T, B]``, to ((h, c), ys)."""
    batch = xs.shape[1]

    def body(carry, inputs):
        h, c, pending, begun = carry
        x, take, boundary = inputs
        before = (pending | boundary) if not reverse else pending
        fresh = before & (begun | (not reverse))
        h_in = jnp.where(fresh[:, None], reset[0], h)
        c_in = jnp.where(fresh[:, None], reset[1], c)
        h_new, c_new = lstm_step(params, h_in, c_in, jnp.where(take[:, None], x, jnp.zeros_like(x)))
        after = boundary if reverse else jnp.zeros_like(boundary)
        pending = jnp.where(take, after, pending | boundary)
        h, c = jnp.where(take[:, None], h_new, h), jnp.where(take[:, None], c_new, c)
        y = jnp.where(take[:, None], h_new, jnp.zeros_like(h_new))
        if reverse:  # a flag beyond the last step taken is nobody's boundary
            pending = pending & (begun | take)
        return (h, c, pending, begun | take), y

    flags = jnp.zeros(batch, bool)
    (h, c, _, _), ys = jax.lax.scan(body, (*initial, flags, flags), (xs, taken, resets), reverse=reverse)
    return (h, c), ys
