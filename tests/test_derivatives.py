"""Every derivative against plain autodiff of a naive scan."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import naive
import numpy as np
import oracle
import pytest
from problems import (
    REMATS,
    B,
    H,
    Options,
    arguments,
    assert_trees_close,
    call,
    cotangents,
    flags,
    random_problem,
    tolerance,
    weigh,
)

import lstm_jax as lj

pytestmark = pytest.mark.usefixtures("short_chunks")

TOL = 100 * tolerance(jnp.float64)  # a second derivative sums over pairs of steps
EVERYTHING = [Options("mask", "state", False), Options("lengths", "state", True)]
every_remat = pytest.mark.parametrize("remat", REMATS)
everything = pytest.mark.parametrize("options", EVERYTHING, ids=["mask-forward", "lengths-reverse"])


def two_losses(options, remat, seed=3):
    """The same scalar function of all differentiable arguments, by the library and by the naive scan."""
    problem = random_problem(seed, options)
    args, chosen = arguments(problem, options), flags(problem, options)
    weights = cotangents(seed)
    curved = partial(jax.tree.map, jnp.sin)

    def ours(args):
        return weigh(curved(call(args, chosen, options, remat)), weights)

    def plain(args):
        taken, resets = jnp.asarray(problem.taken), jnp.asarray(problem.resets)
        return weigh(curved(naive.lstm(*args, taken, resets, options.reverse)), weights)

    finite = (args[0], np.nan_to_num(args[1]), *args[2:])
    direction = jax.tree.map(lambda leaf: np.cos(np.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), finite)
    return ours, plain, finite, direction


def first_and_second_derivatives(loss, args, direction):
    def jvp(args):
        return jax.jvp(loss, (args,), (direction,))[1]

    def grad_dot(args):
        gradient = jax.tree.leaves(jax.grad(loss)(args))
        return sum(jnp.vdot(a, b) for a, b in zip(gradient, jax.tree.leaves(direction), strict=True))

    return {
        "jvp": jvp(args),
        "forward over reverse": jax.jvp(jax.grad(loss), (args,), (direction,))[1],
        "reverse over reverse": jax.grad(grad_dot)(args),
        "reverse over forward": jax.grad(jvp)(args),
    }


@cache
def naive_derivatives(options):
    """What plain autodiff gives, whatever the library saves."""
    _, plain, args, direction = two_losses(options, None)
    return jax.jit(lambda: first_and_second_derivatives(plain, args, direction))()


@every_remat
@everything
def test_forward_and_second_derivatives(options, remat):
    ours, _, args, direction = two_losses(options, remat)
    got, want = jax.jit(lambda: first_and_second_derivatives(ours, args, direction))(), naive_derivatives(options)
    for name in want:
        assert_trees_close(got[name], want[name], TOL)


@cache
def hessian_problem():
    """(parameters, inputs, initial state, cotangents, the Hessian of the bias by plain autodiff)."""
    options = Options("all", "none", False)
    params, xs, initial, _ = arguments(random_problem(0, options, time=18), options)
    weights = cotangents(0, time=18)

    def plain(bias):
        taken, resets = np.ones((18, B), bool), np.zeros((18, B), bool)
        return weigh(naive.lstm(params._replace(bias=bias), xs, initial, initial, taken, resets, False), weights)

    return params, xs, initial, weights, jax.jit(jax.hessian(plain))(params.bias)


@every_remat
def test_hessian(remat):
    params, xs, initial, weights, want = hessian_problem()

    def ours(bias):
        return weigh(lj.lstm(params._replace(bias=bias), xs, initial, remat=remat), weights)

    assert_trees_close(jax.jit(jax.hessian(ours))(params.bias), want, TOL)


@pytest.mark.long
def test_third_derivative():
    ours, plain, args, direction = two_losses(EVERYTHING[0], "states")

    def third(loss):
        def along(step):
            return loss(jax.tree.map(lambda leaf, way: leaf + step * way * 0.1, args, direction))

        return jax.jit(jax.grad(jax.grad(jax.grad(along))))(0.0)

    np.testing.assert_allclose(third(ours), third(plain), rtol=1e-9)


def test_per_example_gradients():
    options = Options("lengths", "zeros", False)
    problem = random_problem(4, options)
    params, xs, initial, _ = arguments(problem, options)
    lengths, resets = jnp.asarray(problem.taken.sum(0)), jnp.asarray(problem.resets)

    def loss(params, xs, initial, lengths, resets):
        return jnp.sum(lj.lstm(params, xs, initial, lengths=lengths, resets=resets)[1] ** 2)

    rows = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 1, 0, 0, 1)))(params, xs, initial, lengths, resets)
    gradient_of_row = jax.jit(jax.grad(loss))
    xs, lengths, resets = map(np.asarray, (xs, lengths, resets))
    for row in range(B):
        pick = partial(jax.tree.map, lambda leaf, row=row: np.asarray(leaf)[row])
        want = gradient_of_row(params, xs[:, row], pick(initial), lengths[row], resets[:, row])
        assert_trees_close(pick(rows), want, TOL)


def test_a_population_of_parameters():
    options = Options("mask", "none", False)
    problem = random_problem(2, options)
    params, xs, initial, _ = arguments(problem, options)
    population = jax.tree.map(lambda leaf: np.stack([leaf, leaf * 0.5]), jax.tree.map(np.asarray, params))

    def loss(params):
        return weigh(lj.lstm(params, xs, initial, mask=problem.taken), cotangents(2))

    gradients, gradient_of_member = jax.jit(jax.vmap(jax.grad(loss)))(population), jax.jit(jax.grad(loss))
    for member in range(2):
        pick = partial(jax.tree.map, lambda leaf, member=member: np.asarray(leaf)[member])
        assert_trees_close(pick(gradients), gradient_of_member(pick(population)), TOL)


@cache
def whole_gradient(options, remat):
    ours, _, args, _ = two_losses(options, remat)
    return jax.jit(jax.grad(ours))(args)


@pytest.mark.parametrize("wrt", ["params", "xs", "initial", "reset", "bias"])
@every_remat
def test_a_derivative_with_respect_to_one_argument_alone(wrt, remat):
    """Unperturbed arguments are dropped from the tangent, which must not change the rest."""
    options = EVERYTHING[0]
    ours, _, args, _ = two_losses(options, remat)
    whole = whole_gradient(options, remat)
    if wrt == "bias":
        of_bias = jax.grad(lambda bias: ours((args[0]._replace(bias=bias), *args[1:])))
        return assert_trees_close(jax.jit(of_bias)(args[0].bias), whole[0].bias, TOL)
    place = ["params", "xs", "initial", "reset"].index(wrt)
    of_argument = jax.grad(lambda argument: ours((*args[:place], argument, *args[place + 1 :])))
    return assert_trees_close(jax.jit(of_argument)(args[place]), whole[place], TOL)


def test_the_equations_of_back_propagation_through_time():
    """One step, gate by gate: dL/do, dL/dc, dL/df, dL/di, dL/dg and the weights, with the gates' own derivatives."""
    options = Options("all", "none", False)
    problem = random_problem(0, options, time=1, batch=1)
    weights = cotangents(0, time=1, batch=1)
    params, xs, initial, _ = arguments(problem, options)
    gradient = jax.jit(jax.grad(lambda *args: weigh(lj.lstm(*args), weights), (0, 1, 2)))(params, xs, initial)
    dparams, dxs, dinitial = jax.tree.map(np.asarray, gradient)

    x, h, c = problem.x[0, 0], problem.h0[0], problem.c0[0]
    i, f, g, o = oracle.gates(problem.weights, x, h)
    c_new = f * c + i * g
    dh, dc_out = weights[0][0] + weights[2][0, 0], weights[1][0]
    dL_do = dh * np.tanh(c_new)
    dL_dc = dc_out + dh * o * (1 - np.tanh(c_new) ** 2)
    dL_df, dL_di, dL_dg = dL_dc * c, dL_dc * g, dL_dc * i
    slab = [dL_di * i * (1 - i), dL_df * f * (1 - f), dL_dg * (1 - g**2), dL_do * o * (1 - o)]
    for k, block in enumerate(slab):
        columns = slice(k * H, (k + 1) * H)
        np.testing.assert_allclose(dparams.bias[columns], block, atol=1e-13)
        np.testing.assert_allclose(dparams.input_kernel[:, columns], np.outer(x, block), atol=1e-13)
        np.testing.assert_allclose(dparams.recurrent_kernel[:, columns], np.outer(h, block), atol=1e-13)
    np.testing.assert_allclose(dinitial.c[0], dL_dc * f, atol=1e-13)
    np.testing.assert_allclose(dxs[0, 0], problem.weights.W @ np.concatenate(slab), atol=1e-13)
