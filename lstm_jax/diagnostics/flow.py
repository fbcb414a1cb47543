"""How gradients flow back through time: through the state of each step, and through products of Jacobians.

    dL/ds_t                                     what the loss says to the state that enters step t
    J_t = ds_{t+1} / ds_t                       [S, S], S the size of the state: 2H for an LSTM's h and c
    ds_T / ds_t = J_{T-1} ... J_t               its singular values grow or shrink with T - t

A simple network's gradients vanish or explode because the product does (Hochreiter 1991; Bengio, Simard and Frasconi
1994); an LSTM's product holds the forget gates on its diagonal.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from lstm_jax._core import engine
from lstm_jax._core.sequence import check_call, unroll
from lstm_jax._core.stack import Between, cell_of_params, run_layers, stack_zero_state
from lstm_jax._core.structs import Bidirectional, Cell, Inputs, PyTree, accumulator_dtype, input_sequence
from lstm_jax.cells import LSTM
from lstm_jax.cells.inputs import with_inputs


@cache
def _perturbed(cell: Cell) -> Cell:
    """The cell, reading ``Inputs(xs, perturbations)``: each step starts from its state plus its perturbation."""

    def perturb(state: PyTree, by: PyTree) -> PyTree:
        return jax.tree.map(jnp.add, state, by)

    return with_inputs(
        cell,
        lambda params, a, by, state: cell.update(params, a, perturb(state, by)),
        recur=lambda params, z, by, state: cell.recur(params, z, perturb(state, by)),
    )


def _zero_perturbations(xs: PyTree, zeros: PyTree) -> PyTree:
    """0 for each part of the state and each step."""
    steps = len(input_sequence(xs))
    return jax.tree.map(lambda leaf: jnp.zeros((steps, *leaf.shape), leaf.dtype), zeros)


def state_gradients(
    loss: Callable[[PyTree, PyTree], jax.Array],
    params: PyTree,
    xs: PyTree,
    initial_state: PyTree | None = None,
    *,
    cell: Cell = LSTM,
    lengths: jax.Array | None = None,
    mask: jax.Array | None = None,
    resets: jax.Array | None = None,
    reset_state: PyTree | None = None,
    reverse: bool = False,
    remat: str | int | None = None,
) -> PyTree:
    """The gradient of a loss with respect to the state that enters each step.

        flow = diagnostics.state_gradients(lambda final, ys: ys[-1].sum(), params, xs)
        jnp.linalg.norm(flow.c, axis=-1)                                    # [T, *batch]

    Args:
        loss: ``loss(final_state, ys) -> number``, of what ``unroll`` returns.
        params, xs, initial_state, lengths, mask, resets, reset_state, reverse, remat: as for ``unroll``.
        cell: any of ``cells.CELLS``, or what a regulariser made of it.
    Returns:
        a state whose parts are ``[T, *batch, H]``: an ``LSTMState`` for an LSTM. At step t it is what flows back
        through the steps from t on, without what the loss reads of the state directly; 0 where no step is taken.
    """
    check_call(cell, params, xs, initial_state, lengths, mask, resets, reset_state, reverse)
    options: dict[str, Any] = {"lengths": lengths, "mask": mask, "resets": resets, "reset_state": reset_state}

    def run(perturbations: PyTree) -> jax.Array:
        inputs: Any = Inputs(xs, perturbations)
        return loss(*unroll(_perturbed(cell), params, inputs, initial_state, reverse=reverse, remat=remat, **options))

    return jax.grad(run)(_zero_perturbations(xs, cell.zero_state(params, input_sequence(xs).shape[1:-1])))


def state_gradients_stack(
    loss: Callable[[PyTree, PyTree], jax.Array],
    layers: Sequence[PyTree],
    xs: jax.Array,
    initial_state: Sequence[PyTree] | None = None,
    *,
    cell: Cell | None = None,
    between: Between | None = None,
    lengths: jax.Array | None = None,
    mask: jax.Array | None = None,
    resets: jax.Array | None = None,
    reset_state: Sequence[PyTree] | None = None,
    reverse: bool = False,
    remat: str | int | None = None,
) -> tuple[Any, ...]:
    """The same for each layer of a stack: states of ``[T, *batch, H]``, ``Bidirectional`` where it reads both ways.

    Args:
        loss: ``loss(final_states, ys) -> number``, of what ``lstm_stack`` returns.
        layers, xs, initial_state, between, lengths, mask, resets, reset_state, reverse, remat: as for ``lstm_stack``.
        cell: of all layers; None means LSTMs, as for ``lstm_stack``.
    """
    options = {"lengths": lengths, "mask": mask, "resets": resets, "reverse": reverse, "remat": remat}

    def run(perturbations: tuple[Any, ...]) -> jax.Array:
        by_run = iter(
            [one for layer in perturbations for one in (layer if isinstance(layer, Bidirectional) else (layer,))]
        )

        def run_layer(params: PyTree, xs: jax.Array, initial: PyTree, **options: Any) -> tuple[PyTree, jax.Array]:
            inputs: Any = Inputs(xs, next(by_run))
            return unroll(_perturbed(cell or cell_of_params(params)), params, inputs, initial, **options)

        return loss(*run_layers(run_layer, layers, xs, initial_state, reset_state, between, options))

    return jax.grad(run)(_zero_perturbations(xs, stack_zero_state(layers, xs.shape[1:-1], cell)))


def state_jacobians(
    params: PyTree, xs: jax.Array, initial_state: PyTree | None = None, *, cell: Cell = LSTM
) -> jax.Array:
    """The Jacobian ``ds_{t+1} / ds_t`` of each step, ``[T, S, S]``; the parts of a state in their order, h then c.

    Args:
        xs: one sequence ``[T, D]``, every step taken; ``jax.vmap`` does batches.
    Returns:
        in float32, or float64 for float64.
    """
    shape = input_sequence(xs).shape
    check_call(cell, params, xs, initial_state, None, None, None, None, False)
    if len(shape) != 2 + cell.num_spatial_dims:
        raise ValueError(f"xs: got shape {shape}, want one sequence [T, D]; jax.vmap does batches")
    start = cell.zero_state(params, shape[1:-1]) if initial_state is None else initial_state
    flat, unflatten = ravel_pytree(start)
    prepared = cell.prepare(params)

    def step(flat: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        def advance(flat: jax.Array) -> jax.Array:
            new, _ = engine.step(cell, prepared, unflatten(flat), x)
            return ravel_pytree(new)[0]

        return advance(flat), jax.jacfwd(advance)(flat).astype(accumulator_dtype(flat.dtype))

    return lax.scan(step, flat, xs)[1]


def product_spectra(jacobians: jax.Array) -> jax.Array:
    """log10 of the singular values of ``ds_T / ds_t`` for each t, ``[T, S]``, largest first.

    The product is scaled at each step, so that none under- or overflows; singular values smaller than the largest by
    more than the precision of the dtype are noise.

    Args:
        jacobians: ``[T, S, S]`` of ``state_jacobians``.
    """

    def back(carry: tuple[jax.Array, jax.Array], jacobian: jax.Array) -> tuple[tuple, tuple]:
        product, log_scale = carry
        product = product @ jacobian
        size = jnp.maximum(jnp.linalg.norm(product), jnp.finfo(product.dtype).tiny)
        carry = (product / size, log_scale + jnp.log10(size))
        return carry, carry

    whole = jnp.eye(jacobians.shape[-1], dtype=jacobians.dtype)
    _, (products, scales) = lax.scan(back, (whole, jnp.zeros((), jacobians.dtype)), jacobians, reverse=True)
    return jnp.log10(jnp.linalg.svd(products, compute_uv=False)) + scales[:, None]


def lyapunov_exponents(jacobians: jax.Array, count: int | None = None) -> jax.Array:
    """The Lyapunov exponents of a trajectory, nats a step, ``[count]``, largest first.

        Q_{t+1} R_t = J_t Q_t        exponent k = mean over t of log |R_t[k, k]|

    How fast neighbouring states part: above 0 chaos, below 0 forgetting (Benettin et al. 1980, Meccanica 15).

    Args:
        jacobians: ``[T, S, S]`` of ``state_jacobians``, without the steps that lead in.
        count: how many; None means S.
    Raises:
        ValueError: a count that is not 1 to S.
    """
    size = jacobians.shape[-1]
    count = size if count is None else count
    if not 1 <= count <= size:
        raise ValueError(f"count: got {count}, want 1 to the {size} numbers of the state")

    def step(basis: jax.Array, jacobian: jax.Array) -> tuple[jax.Array, jax.Array]:
        basis, triangle = jnp.linalg.qr(jacobian @ basis)
        return basis, jnp.log(jnp.abs(jnp.diagonal(triangle)))

    # No direction of the state is left out, as unit vectors of h would leave out c.
    start = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (size, count), jacobians.dtype))[0]
    return jnp.sort(lax.scan(step, start, jacobians)[1].mean(axis=0))[::-1]
