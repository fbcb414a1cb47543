"""Gradients through time: gradients of a loss with respect to states, and products of the steps' Jacobians.

    dL/ds_t                                     the gradient of a loss L with respect to the state entering step t
    J_t = ds_{t+1} / ds_t                       [S, S], where S is the size of the state: 2H for an LSTM's h and c
    ds_T / ds_t = J_{T-1} ... J_t               its singular values grow or shrink with T - t

In a simple network this product, and with it the gradient, vanishes or explodes (Hochreiter 1991; Bengio, Simard and
Frasconi 1994). In an LSTM the diagonal of each factor contains the forget gates.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from lstm_jax._core import engine
from lstm_jax._core.call import check_call
from lstm_jax._core.layers import Between, cell_of_params, run_cell, run_layers
from lstm_jax._core.stack import stack_zero_state
from lstm_jax._core.structs import (
    Bidirectional,
    Cell,
    Inputs,
    PyTree,
    SequenceOptions,
    accumulator_dtype,
    input_sequence,
)
from lstm_jax.cells import LSTM
from lstm_jax.cells.inputs import with_inputs


@cache
def _perturb_cell(cell: Cell) -> Cell:
    """Returns a cell that takes ``Inputs(xs, perturbations)`` and adds a perturbation to the state entering each step.

    The gradient with respect to a zero perturbation is the gradient with respect to the state.
    """

    def perturb(state: PyTree, perturbation: PyTree) -> PyTree:
        return jax.tree.map(jnp.add, state, perturbation)

    return with_inputs(
        cell,
        lambda params, a, perturbation, state: cell.update(params, a, perturb(state, perturbation)),
        recur=lambda params, z, perturbation, state: cell.recur(params, z, perturb(state, perturbation)),
    )


def _zero_perturbations(num_steps: int, zero_states: PyTree) -> PyTree:
    """Returns zeros ``[T, ...]`` for each array ``[...]`` of the states."""
    return jax.tree.map(lambda leaf: jnp.zeros((num_steps, *leaf.shape), leaf.dtype), zero_states)


def state_gradients(
    loss: Callable[[PyTree, PyTree], jax.Array],
    params: PyTree,
    xs: PyTree,
    initial_state: PyTree | None = None,
    *,
    cell: Cell = LSTM,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: PyTree | None = None,
    reverse: bool = False,
    remat: str | int | None = None,
) -> PyTree:
    """Computes the gradient of a loss with respect to the state entering each step.

    Args:
        loss: ``loss(final_state, ys) -> scalar``, a function of the results of ``unroll``.
        params: parameters of the cell, ``LSTMParams`` for an LSTM.
        xs: inputs ``[T, *batch, D]``, or ``Inputs`` for a cell with additional inputs per step.
        initial_state: the state before the first step processed; None means zeros.
        cell: a cell of ``cells.CELLS``, or one derived from it, for example by a regularizer.
        lengths: integers ``[*batch]``; steps after the length are not taken. None means all T steps.
        mask: bool ``[T, *batch]``, True at steps that are taken; give at most one of ``lengths`` and ``mask``.
        resets: bool ``[T, *batch]``; no state crosses the boundary before a True step. None means no resets.
        reset_state: the state after a reset, broadcast to the state's shape; None means zeros.
        reverse: whether to process each sequence from its last taken step to its first.
        remat: which values are saved for the backward pass, as for ``lstm``.
    Returns:
        a state with parts ``[T, *batch, H]``: an ``LSTMState`` for an LSTM. Entry t contains only the gradient that
        flows back through step t, not the loss's direct dependence on the state; it is 0 at steps that are not taken.
    Raises:
        ValueError: if an argument has the wrong shape or dtype; the message names it.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params, xs = lj.init_params(jax.random.key(0), 3, 8), jnp.ones((5, 3))
        >>> gradients = lj.diagnostics.state_gradients(lambda final, ys: ys[-1].sum(), params, xs)
        >>> jnp.linalg.norm(gradients.c, axis=-1).shape  # one norm per step
        (5,)
    """
    options = SequenceOptions(lengths, mask, resets, reset_state, reverse, remat)
    check_call(cell, params, xs, initial_state, options)
    num_steps, *row_shape, _ = input_sequence(xs).shape

    def perturbed_loss(perturbations: PyTree) -> jax.Array:
        inputs: Any = Inputs(xs, perturbations)
        return loss(*run_cell(_perturb_cell(cell), params, inputs, initial_state, options))

    return jax.grad(perturbed_loss)(_zero_perturbations(num_steps, cell.zero_state(params, tuple(row_shape))))


def state_gradients_stack(
    loss: Callable[[PyTree, PyTree], jax.Array],
    layers: Sequence[PyTree],
    xs: ArrayLike,
    initial_state: Sequence[PyTree] | None = None,
    *,
    cell: Cell | None = None,
    between: Between | None = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: Sequence[PyTree] | None = None,
    reverse: bool = False,
    remat: str | int | None = None,
) -> tuple[Any, ...]:
    """Computes the gradient of a loss with respect to the state entering each step of each layer of a stack.

    Args:
        loss: ``loss(final_states, ys) -> scalar``, a function of the results of ``lstm_stack``.
        layers: parameters of each layer, lowest first; a ``Bidirectional`` pair for a bidirectional layer.
        xs: inputs ``[T, *batch, D]``.
        initial_state: the initial state of each layer; None means zeros.
        cell: the cell of all layers; None means the LSTM, or the projected LSTM, depending on the parameters.
        between: ``between(layer_index, inputs, outputs)`` returns the inputs of the next layer; None means the outputs.
        lengths: integers ``[*batch]``; steps after the length are not taken. None means all T steps.
        mask: bool ``[T, *batch]``, True at steps that are taken; give at most one of ``lengths`` and ``mask``.
        resets: bool ``[T, *batch]``; no state crosses the boundary before a True step. None means no resets.
        reset_state: the state of each layer after a reset; None means zeros.
        reverse: whether every layer processes time in reverse; not allowed with ``Bidirectional`` layers.
        remat: which values are saved for the backward pass, as for ``lstm``.
    Returns:
        a tuple with one state per layer, lowest first, with parts ``[T, *batch, H]`` as returned by
        ``state_gradients``; a ``Bidirectional`` pair of states for a bidirectional layer.
    Raises:
        ValueError: if an argument has the wrong shape or dtype; the message names the layer and the argument.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> layers = lj.init_stack(jax.random.key(0), 3, 8, 2)
        >>> gradients = lj.diagnostics.state_gradients_stack(lambda finals, ys: ys[-1].sum(), layers, jnp.ones((5, 3)))
        >>> [layer.c.shape for layer in gradients]
        [(5, 8), (5, 8)]
    """
    xs = jnp.asarray(xs)
    options = SequenceOptions(lengths=lengths, mask=mask, resets=resets, reverse=reverse, remat=remat)

    def perturbed_loss(perturbations: tuple[Any, ...]) -> jax.Array:
        by_direction = [
            direction
            for layer in perturbations
            for direction in (layer if isinstance(layer, Bidirectional) else (layer,))
        ]
        remaining = iter(by_direction)  # run_layers runs the layers in order, forward before backward

        def run_layer(
            params: PyTree, xs: jax.Array, initial_state: PyTree, options: SequenceOptions
        ) -> tuple[PyTree, jax.Array]:
            perturbed_cell = _perturb_cell(cell or cell_of_params(params))
            return run_cell(perturbed_cell, params, Inputs(xs, next(remaining)), initial_state, options)

        return loss(*run_layers(run_layer, layers, xs, initial_state, reset_state, between, options))

    return jax.grad(perturbed_loss)(_zero_perturbations(len(xs), stack_zero_state(layers, xs.shape[1:-1], cell)))


def state_jacobians(params: PyTree, xs: PyTree, initial_state: PyTree | None = None, *, cell: Cell = LSTM) -> jax.Array:
    """Computes the Jacobian ``ds_{t+1} / ds_t`` of each step of a sequence.

    Args:
        params: parameters of the cell, ``LSTMParams`` for an LSTM.
        xs: one sequence ``[T, D]``; use ``jax.vmap`` for batches.
        initial_state: the state before step 0; None means zeros.
        cell: a cell of ``cells.CELLS``, or one derived from it.
    Returns:
        ``[T, S, S]`` in float32, or in float64 for float64. A state is flattened to S values in the order of its
        parts: h, then c, and S = 2H, for an LSTM.
    Raises:
        ValueError: if an argument has the wrong shape or dtype; the message names it.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> lj.diagnostics.state_jacobians(lj.init_params(jax.random.key(0), 3, 8), jnp.ones((5, 3))).shape
        (5, 16, 16)
    """
    shape = input_sequence(xs).shape
    check_call(cell, params, xs, initial_state, SequenceOptions())
    if len(shape) != 2 + cell.num_spatial_dims:
        raise ValueError(f"xs: got shape {shape}, want one sequence [T, D]; jax.vmap does batches")
    start = cell.zero_state(params, shape[1:-1]) if initial_state is None else initial_state
    flat_start, unflatten = ravel_pytree(start)
    prepared = cell.prepare(params)

    def step(flat_state: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        def advance(flat_state: jax.Array) -> jax.Array:
            new_state, _ = engine.step(cell, prepared, unflatten(flat_state), x)
            return ravel_pytree(new_state)[0]

        return advance(flat_state), jax.jacfwd(advance)(flat_state).astype(accumulator_dtype(flat_state.dtype))

    return lax.scan(step, flat_start, xs)[1]


def product_spectra(jacobians: ArrayLike) -> jax.Array:
    """Computes log10 of the singular values of ``ds_T / ds_t``, the product of the Jacobians from t on, for each t.

    The product is rescaled at each step, which avoids underflow and overflow. Singular values below the largest one
    times the dtype's machine epsilon are rounding noise.

    Args:
        jacobians: ``[T, S, S]`` from ``state_jacobians``.
    Returns:
        ``[T, S]``, sorted in decreasing order along the last axis.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> lj.diagnostics.product_spectra(jnp.full((3, 1, 1), 0.1)).round().tolist()
        [[-3.0], [-2.0], [-1.0]]
    """
    jacobians = jnp.asarray(jacobians)

    def multiply(carry: tuple[jax.Array, jax.Array], jacobian: jax.Array) -> tuple[tuple, tuple]:
        product, log_scale = carry
        product = product @ jacobian
        norm = jnp.maximum(jnp.linalg.norm(product), jnp.finfo(product.dtype).tiny)
        carry = (product / norm, log_scale + jnp.log10(norm))
        return carry, carry

    identity = jnp.eye(jacobians.shape[-1], dtype=jacobians.dtype)
    start = (identity, jnp.zeros((), jacobians.dtype))
    _, (products, log_scales) = lax.scan(multiply, start, jacobians, reverse=True)
    return jnp.log10(jnp.linalg.svd(products, compute_uv=False)) + log_scales[:, None]


def lyapunov_exponents(jacobians: ArrayLike, num_exponents: int | None = None) -> jax.Array:
    """Computes the largest Lyapunov exponents of a trajectory from the Jacobians of its steps.

        Q_{t+1} R_t = J_t Q_t        exponent k = mean over t of log |R_t[k, k]|

    The exponents are the rates at which neighboring states separate. If the largest is positive the dynamics are
    chaotic; if it is negative the network forgets its initial state (Benettin et al. 1980, Meccanica 15).

    Args:
        jacobians: ``[T, S, S]`` from ``state_jacobians``, without the steps of an initial transient.
        num_exponents: number of exponents to compute, 1 to S; None means S.
    Returns:
        ``[num_exponents]`` in nats per step, in decreasing order.
    Raises:
        ValueError: if ``num_exponents`` is not between 1 and S.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> lj.diagnostics.lyapunov_exponents(jnp.full((9, 1, 1), jnp.e)).round().tolist()
        [1.0]
    """
    jacobians = jnp.asarray(jacobians)
    state_size = jacobians.shape[-1]
    num_exponents = state_size if num_exponents is None else num_exponents
    if not 1 <= num_exponents <= state_size:
        raise ValueError(f"num_exponents: got {num_exponents}, want 1 to the {state_size} numbers of the state")

    def step(basis: jax.Array, jacobian: jax.Array) -> tuple[jax.Array, jax.Array]:
        basis, triangle = jnp.linalg.qr(jacobian @ basis)
        return basis, jnp.log(jnp.abs(jnp.diagonal(triangle)))

    # A random basis has a component along every direction of the state; unit vectors of h would miss those of c.
    random_basis = jax.random.normal(jax.random.key(0), (state_size, num_exponents), jacobians.dtype)
    log_growths = lax.scan(step, jnp.linalg.qr(random_basis)[0], jacobians)[1]
    return jnp.sort(log_growths.mean(axis=0))[::-1]
