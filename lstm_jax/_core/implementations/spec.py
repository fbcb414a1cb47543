"""The description of a call, from which an implementation decides whether it supports the call."""

from typing import NamedTuple

import jax


class CallSpec(NamedTuple):
    """The parts of a call that decide which implementations can run it."""

    xs: jax.Array
    """``[T, *batch, D]``"""
    hidden_size: int
    """H"""
    mask: jax.Array | None
    """bool ``[T, *batch]``, or None"""
    resets: jax.Array | None
    """bool ``[T, *batch]``, or None"""
    remat: str | int | None
    """what is saved for the backward pass, as the caller gave it"""
