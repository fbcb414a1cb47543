"""Every derivative against plain autodiff of a naive scan."""

from functools import partial

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

    finite = (args[0], jnp.nan_to_num(args[1]), *args[2:])
    direction = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), finite)
    return ours, plain, finite, direction


@every_remat
@everything
def test_forward_and_second_derivatives(options, remat):
    ours, plain, args, direction = two_losses(options, remat)

    def derivatives(loss):
        def jvp(args):
            return jax.jvp(loss, (args,), (direction,))[1]

        def grad_dot(args):
            return sum(
                jnp.vdot(a, b)
                for a, b in zip(jax.tree.leaves(jax.grad(loss)(args)), jax.tree.leaves(direction), strict=True)
            )

        return {
            "jvp": jvp(args),
            "forward over reverse": jax.jvp(jax.grad(loss), (args,), (direction,))[1],
            "reverse over reverse": jax.grad(grad_dot)(args),
            "reverse over forward": jax.grad(jvp)(args),
        }

    got, want = jax.jit(partial(derivatives, ours))(), jax.jit(partial(derivatives, plain))()
    for name in want:
        assert_trees_close(got[name], want[name], TOL)


@every_remat
def test_hessian(remat):
    options = Options("all", "none", False)
    params, xs, initial, _ = arguments(random_problem(0, options, time=18), options)

    def ours(bias):
        return weigh(lj.lstm(params._replace(bias=bias), xs, initial, remat=remat), cotangents(0, time=18))

    def plain(bias):
        taken, resets = jnp.ones((18, B), bool), jnp.zeros((18, B), bool)
        result = naive.lstm(params._replace(bias=bias), xs, initial, initial, taken, resets, False)
        return weigh(result, cotangents(0, time=18))

    assert_trees_close(jax.hessian(ours)(params.bias), jax.hessian(plain)(params.bias), TOL)


@pytest.mark.long
def test_third_derivative():
    ours, plain, args, direction = two_losses(EVERYTHING[0], "states")

    def third(loss):
        def along(step):
            return loss(jax.tree.map(lambda leaf, way: leaf + step * way * 0.1, args, direction))

        return jax.grad(jax.grad(jax.grad(along)))(0.0)

    np.testing.assert_allclose(third(ours), third(plain), rtol=1e-9)


def test_per_example_gradients():
    options = Options("lengths", "zeros", False)
    problem = random_problem(4, options)
    params, xs, initial, _ = arguments(problem, options)
    lengths, resets = jnp.asarray(problem.taken.sum(0)), jnp.asarray(problem.resets)

    def loss(params, xs, initial, lengths, resets):
        return jnp.sum(lj.lstm(params, xs, initial, lengths=lengths, resets=resets)[1] ** 2)

    each = jax.vmap(jax.grad(loss), in_axes=(None, 1, 0, 0, 1))(params, xs, initial, lengths, resets)
    for row in range(B):
        one = jax.grad(loss)(
            params, xs[:, row], jax.tree.map(lambda s, r=row: s[r], initial), lengths[row], resets[:, row]
        )
        assert_trees_close(jax.tree.map(lambda leaf, r=row: leaf[r], each), one, TOL)


def test_a_population_of_parameters():
    options = Options("mask", "none", False)
    problem = random_problem(2, options)
    params, xs, initial, _ = arguments(problem, options)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * 0.5]), params)

    def loss(params):
        return weigh(lj.lstm(params, xs, initial, mask=jnp.asarray(problem.taken)), cotangents(2))

    together = jax.vmap(jax.grad(loss))(many)
    for member in range(2):
        one = jax.grad(loss)(jax.tree.map(lambda leaf, m=member: leaf[m], many))
        assert_trees_close(jax.tree.map(lambda leaf, m=member: leaf[m], together), one, TOL)


@pytest.mark.parametrize("wrt", ["params", "xs", "initial", "reset", "bias"])
@every_remat
def test_a_derivative_with_respect_to_one_argument_alone(wrt, remat):
    """Unperturbed arguments are dropped from the tangent, which must not change the rest."""
    options = EVERYTHING[0]
    ours, _, args, _ = two_losses(options, remat)
    whole = jax.grad(ours)(args)
    if wrt == "bias":
        one = jax.grad(lambda bias: ours((args[0]._replace(bias=bias), *args[1:])))(args[0].bias)
        return assert_trees_close(one, whole[0].bias, TOL)
    place = ["params", "xs", "initial", "reset"].index(wrt)
    one = jax.grad(lambda arg: ours((*args[:place], arg, *args[place + 1 :])))(args[place])
    return assert_trees_close(one, whole[place], TOL)


def test_the_equations_of_back_propagation_through_time():
    """One step, gate by gate: dL/do, dL/dc, dL/df, dL/di, dL/dg and the weights, with the gates' own derivatives."""
    options = Options("all", "none", False)
    problem = random_problem(0, options, time=1, batch=1)
    weights = cotangents(0, time=1, batch=1)
    params, xs, initial, _ = arguments(problem, options)
    dparams, dxs, dinitial = jax.grad(lambda *args: weigh(lj.lstm(*args), weights), (0, 1, 2))(params, xs, initial)

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
