"""Containers, axis letters and the order of the gates.

Axis letters, used in every docstring: ``T`` time (always axis 0), ``D`` input size, ``H`` hidden size,
``*batch`` any number of batch axes, none included. Cells have more: ``G`` gates with weights, ``P`` the width of a
projection, ``*spatial`` the spatial axes of a map, ``*kernel_size`` those of a convolution's kernel.

The four gates of an LSTM lie side by side in blocks of ``H`` along the last axis, in the order
``i, f, g, o``: input gate, forget gate, candidate, output gate.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import export
from jax.typing import ArrayLike as JaxArrayLike
from jax.typing import DTypeLike

PyTree = Any


class SupportsJaxArray(Protocol):
    """An object that JAX converts to an array by its ``__jax_array__``, such as ``nnx.Variable``."""

    def __jax_array__(self) -> jax.Array: ...


ArrayLike = JaxArrayLike | SupportsJaxArray
"""A JAX or NumPy array, a number, or an object with ``__jax_array__``."""


class LSTMParams(NamedTuple):
    """The parameters of one LSTM layer, stored as the matrix products want them; ``init_params`` draws them."""

    input_kernel: jax.Array
    """``[D, 4H]``"""
    recurrent_kernel: jax.Array
    """``[H, 4H]``"""
    bias: jax.Array
    """``[4H]``; includes any offset of the forget gate, none is added at run time"""


class LSTMState(NamedTuple):
    """The state of an LSTM between two steps; ``zero_state`` makes the one before the first step."""

    h: jax.Array
    """``[*batch, H]``, the output; dtype of the parameters"""
    c: jax.Array
    """``[*batch, H]``, the memory; float32, or float64 with float64 parameters"""


class Bidirectional(NamedTuple):
    """Values for the two directions of a bidirectional layer: its parameters or its states."""

    forward: PyTree
    """for the direction from the first step to the last"""
    backward: PyTree
    """for the direction from the last step to the first"""


class Inputs(NamedTuple):
    """A sequence with extra arrays that a cell reads at each step, such as the masks of a regularizer."""

    x: Any
    """``[T, *batch, D]``, or the ``Inputs`` of the wrapped cell, see ``cells.with_inputs``"""
    per_step: PyTree
    """arrays ``[T, *batch, ...]``; no derivative is taken with respect to booleans and integers"""


def wraps_array(value: Any) -> bool:
    """Whether a value is no array but has ``__jax_array__``, as ``nnx.Variable`` does."""
    return hasattr(value, "__jax_array__") and not isinstance(value, jax.Array)


def input_sequence(xs: PyTree) -> jax.Array:
    """Returns the array ``[T, *batch, D]``, unwrapping nested ``Inputs``."""
    while isinstance(xs, Inputs):
        xs = xs.x
    return xs


class SequenceOptions(NamedTuple):
    """The options that ``lstm``, ``unroll`` and the stacks share; the docstring of ``lstm`` says what each means."""

    lengths: ArrayLike | None = None
    """int ``[*batch]``, valid steps of each sequence; None means T"""
    mask: ArrayLike | None = None
    """bool ``[T, *batch]``, the steps to take; None means all"""
    resets: ArrayLike | None = None
    """bool ``[T, *batch]``, boundaries that no state crosses"""
    reset_state: PyTree = None
    """the state after a boundary; None means the zero state"""
    reverse: bool = False
    """whether the last step is read first"""
    remat: str | int | None = None
    """what is saved for the backward pass"""
    implementation: str | None = None
    """the name of the implementation that runs the loop; None chooses"""


def _no_init(*arguments: Any, **options: Any) -> PyTree:
    raise ValueError(
        "cell.init: this cell has none; give Cell(init=...), a function (key, input_size, hidden_size, *, dtype)"
    )


class Cell(NamedTuple):
    """A recurrent cell: pure functions over pytrees of arrays with any leading axes.

    ``unroll`` calls them on one time step or on many at once. No function may mix the rows of a batch, and every array
    that is differentiated comes in through ``params``, not through a closure. Put work that does not
    depend on the state in ``project``: it runs outside the loop over time, in the forward and in the backward pass.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> elman = lj.Cell(  # h' = tanh(x W + h R)
        ...     project=lambda params, x: x @ params["W"],
        ...     recur=lambda params, z, h: z + h @ params["R"],
        ...     update=lambda params, a, h: (jnp.tanh(a), jnp.tanh(a)),
        ...     zero_state=lambda params, batch_shape: jnp.zeros((*batch_shape, 8)),
        ... )
        >>> h, ys = lj.unroll(elman, {"W": jnp.ones((3, 8)), "R": jnp.eye(8)}, jnp.ones((5, 3)))
        >>> ys.shape
        (5, 8)
    """

    project: Callable[[PyTree, Any], PyTree]
    """``project(params, x) -> z``: what the input contributes"""
    recur: Callable[[PyTree, PyTree, PyTree], PyTree]
    """``recur(params, z, state) -> a``: adds the contribution of the state to ``z``, usually a matrix product"""
    update: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]
    """``update(params, a, state) -> (state, y)``: the elementwise equations, the next state and the output"""
    zero_state: Callable[[PyTree, tuple[int, ...]], PyTree]
    """``zero_state(params, batch_shape) -> state``: the state before the first step"""
    init: Callable[..., PyTree] = _no_init
    """``init(key, input_size, hidden_size, *, dtype=float32, **options) -> params``: draws the parameters of a layer"""
    prepare: Callable[[PyTree], PyTree] = lambda params: params
    """``prepare(params) -> params``: work done once before the loop, such as laying out a kernel; the other
    functions accept both the original and the prepared parameters"""
    check: Callable[[PyTree, Any], None] = lambda params, xs: None
    """``check(params, xs)``: raises ValueError if the parameters do not fit each other or the inputs"""
    gates: Callable[[PyTree, PyTree, PyTree], dict[str, jax.Array]] = lambda params, a, state: {}
    """``gates(params, a, state) -> gates`` by letter, each ``[..., H]``: the activations of the gates, for
    ``diagnostics`` only"""
    num_spatial_dims: int = 0
    """spatial axes between the batch and the features, for convolutions: ``x [..., *spatial, D]``, and
    ``zero_state(params, (*batch, *spatial))``"""


def split_gates(slab: jax.Array) -> list[jax.Array]:
    """Splits ``[..., 4H]`` into ``i, f, g, o``, each ``[..., H]``."""
    return jnp.split(slab, 4, axis=-1)


def join_gates(i: jax.Array, f: jax.Array, g: jax.Array, o: jax.Array) -> jax.Array:
    """Joins ``i, f, g, o``, each ``[..., H]``, to ``[..., 4H]``."""
    return jnp.concatenate([i, f, g, o], axis=-1)


def accumulator_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Returns the dtype in which gates, cell state and products are accumulated: float64 for float64, else float32."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def _register_for_export(*containers: type) -> None:
    """Lets ``jax.export`` write the containers into its files."""
    for container in containers:
        export.register_namedtuple_serialization(container, serialized_name=f"lstm_jax.{container.__name__}")


_register_for_export(LSTMParams, LSTMState, Bidirectional, Inputs)
