"""What an implementation is told of a call to say whether it can run it."""

from typing import Any, NamedTuple

import jax


class CallSpec(NamedTuple):
    """The parts of a call that decide which implementations can run it."""

    xs: jax.Array
    hidden_size: int
    mask: Any
    resets: Any
    remat: str | int | None
