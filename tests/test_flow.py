"""Jacobians and their products, exponents, fixed points: against what is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax import diagnostics
from lstm_jax.cells import CELLS, SIMPLE, SimpleParams, simple_cell
from lstm_jax.diagnostics import flow


def linear(activation):
    return activation


LINEAR = simple_cell(linear)


def linear_problem(matrix, steps):
    size = len(matrix)
    params = SimpleParams(jnp.zeros((1, size)), jnp.asarray(matrix), jnp.zeros(size))
    return flow.state_jacobians(params, jnp.zeros((steps, 1)), cell=LINEAR)


def test_jacobians_are_those_of_the_run():
    params = lj.init_params(jax.random.key(0), 2, 3, dtype=jnp.float64)
    xs, zero = jax.random.normal(jax.random.key(1), (6, 2)), lj.zero_state(params)
    jacobians = flow.state_jacobians(params, xs)
    assert jacobians.shape == (6, 6, 6)
    whole = jax.jacobian(lambda state: lj.lstm(params, xs, state)[0])(zero)
    product = np.linalg.multi_dot([np.asarray(jacobian) for jacobian in jacobians[::-1]])
    want = np.block([[np.asarray(whole.h.h), np.asarray(whole.h.c)], [np.asarray(whole.c.h), np.asarray(whole.c.c)]])
    np.testing.assert_allclose(product, want, rtol=1e-12, atol=1e-14)
    spectrum = flow.product_spectra(jacobians)
    np.testing.assert_allclose(spectrum[0], np.log10(np.linalg.svd(want, compute_uv=False)), atol=1e-6)
    np.testing.assert_allclose(spectrum[5], np.log10(np.linalg.svd(jacobians[5], compute_uv=False)), atol=1e-8)


def test_products_that_no_number_could_hold():
    """A rotation shrunk by 1000 at each step: 10 ** -900 after 300, for every singular value."""
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) / 1000
    spectra = flow.product_spectra(linear_problem(turn, 300))
    np.testing.assert_allclose(spectra, -3.0 * np.arange(300, 0, -1)[:, None] * np.ones((1, 2)), rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_lyapunov_exponents_of_a_linear_recurrence(seed):
    """The logarithms of the eigenvalues' sizes, for a matrix that is far from normal."""
    rng = np.random.default_rng(seed)
    basis, sizes = rng.normal(size=(4, 4)), np.array([1.3, 0.9, 0.5, 0.05])
    matrix = basis @ np.diag(sizes) @ np.linalg.inv(basis)
    jacobians = linear_problem(matrix, 4000)
    exponents = diagnostics.lyapunov_exponents(jacobians)
    np.testing.assert_allclose(exponents, np.log(sizes), atol=2e-3)  # what the basis adds fades like 1 / T
    np.testing.assert_allclose(diagnostics.lyapunov_exponents(jacobians, 2), np.log(sizes[:2]), atol=2e-3)


def test_a_few_lyapunov_exponents_of_an_lstm():
    """Without recurrent weights c keeps sigmoid(b_f) of itself at each step, and h nothing: log of that, H times."""
    params = lj.LSTMParams(jnp.zeros((1, 12)), jnp.zeros((3, 12)), jnp.ones(12))
    jacobians = flow.state_jacobians(params, jnp.zeros((50, 1)))
    exponents = diagnostics.lyapunov_exponents(jacobians, 2)
    np.testing.assert_allclose(exponents, np.log(1 / (1 + np.exp(-1))), rtol=0.05)
    with pytest.raises(ValueError, match="num_exponents: got 7, want 1 to the 6 numbers"):
        diagnostics.lyapunov_exponents(jacobians, 7)


def test_half_precision_is_measured_in_float32():
    params = CELLS["gru"].init(jax.random.key(0), 2, 3, dtype=jnp.bfloat16)
    xs = jnp.ones((5, 2), jnp.bfloat16)
    jacobians = flow.state_jacobians(params, xs, cell=CELLS["gru"])
    assert jacobians.dtype == jnp.float32
    assert np.isfinite(flow.product_spectra(jacobians)).all()
    assert np.isfinite(flow.lyapunov_exponents(jacobians)).all()
    fields = diagnostics.trace(params, xs, cell=CELLS["gru"])
    assert diagnostics.principal_components({"h": fields["h"]}).components.dtype == jnp.float32
    attribution = diagnostics.integrated_gradients(lambda xs: (xs * xs).sum(), xs, num_points=3)
    assert attribution.per_feature.dtype == jnp.float32
    np.testing.assert_allclose(attribution.per_feature, 1.0, atol=2e-2)
    with pytest.raises(ValueError, match=r"want \[D\] and states in float32 or float64"):
        diagnostics.fixed_points(params, jnp.ones(2, jnp.bfloat16), fields["h"], cell=CELLS["gru"])


def test_what_jacobians_and_searches_cannot_take():
    params = lj.init_params(jax.random.key(0), 2, 3)
    with pytest.raises(ValueError, match=r"xs: got shape \(5, 7, 2\), want one sequence"):
        flow.state_jacobians(params, jnp.zeros((5, 7, 2), jnp.float32))
    with pytest.raises(ValueError, match="xs"):
        flow.state_jacobians(params, jnp.zeros((5, 3), jnp.float32))
    x, state = jnp.zeros(2, jnp.float32), lj.zero_state(params, (4,))
    for wrong, starts in ((x, state._asdict()), (x, lj.zero_state(params)), (jnp.zeros(3, jnp.float32), state)):
        with pytest.raises(ValueError, match=r"initial_states|xs|input_kernel"):
            diagnostics.fixed_points(params, wrong, starts)


@pytest.mark.usefixtures("standard_promotion")
def test_a_slow_point_where_no_fixed_one_is():
    """h' = tanh(2 h + 0.6): the two lower fixed points have just gone, and h is slow where they were."""
    params = SimpleParams(jnp.zeros((1, 1)), jnp.array([[2.0]]), jnp.array([0.6]))
    grid = np.linspace(-1, 0, 100_001)
    speed = np.abs(np.tanh(2 * grid + 0.6) - grid)
    slow = grid[speed.argmin()]
    assert speed.min() > 1e-2, "no fixed point there"
    start = jnp.array([[slow - 0.05]])
    options = {"learning_rate": 1e-3, "adam_steps": 3000, "cell": SIMPLE}
    points = diagnostics.fixed_points(params, jnp.zeros(1), start, newton_steps=0, **options)
    assert points.states[0, 0] == pytest.approx(slow, abs=1e-3)
    assert points.speeds[0] == pytest.approx(speed.min(), rel=1e-3)
    assert points.jacobians[0, 0, 0] == pytest.approx(1, abs=1e-2)


@pytest.mark.usefixtures("standard_promotion")
def test_arrays_of_numpy_are_taken():
    params = lj.init_params(jax.random.key(0), 2, 3, dtype=jnp.float64)
    xs, x = np.random.default_rng(0).normal(size=(5, 2)), np.zeros(2)
    state = jax.tree.map(np.asarray, lj.zero_state(params, (2,)))
    jacobians = flow.state_jacobians(params, xs)

    def score(xs):
        return lj.lstm(params, xs)[1].sum()

    def measure(xs, x, jacobians):
        return (
            diagnostics.trace(params, xs),
            diagnostics.state_gradients(lambda final, ys: ys.sum(), params, xs),
            diagnostics.integrated_gradients(score, xs, num_points=2),
            diagnostics.occlusion(score, xs, xs[:1]),
            diagnostics.product_spectra(jacobians),
            diagnostics.lyapunov_exponents(jacobians, 2),
            diagnostics.fixed_points(params, x, state, adam_steps=2).states,
        )

    host = measure(xs, x, np.asarray(jacobians))
    jax.tree.map(np.testing.assert_array_equal, host, measure(jnp.asarray(xs), jnp.asarray(x), jacobians))


def test_a_simple_network_forgets_and_an_lstm_remembers():
    """At T = 500, the same data and size: the gradient at the first step as a share of the last one's."""
    time, size = 500, 32
    xs = jax.random.normal(jax.random.key(0), (time, 1, 8), jnp.float32)
    simple = CELLS["simple"].init(jax.random.key(1), 8, size)
    lstm = lj.init_params(jax.random.key(1), 8, size, scheme="chrono", max_time=time)
    norms = {}
    for name, cell, params in (("simple", SIMPLE, simple), ("lstm", CELLS["lstm"], lstm)):
        gradients = diagnostics.state_gradients(lambda final, ys: ys[-1].sum(), params, xs, cell=cell)
        squares = sum(jnp.sum(leaf**2, axis=(1, 2)) for leaf in jax.tree.leaves(gradients))
        norms[name] = np.sqrt(np.asarray(squares, np.float64))
    shares = {name: values[0] / values[-1] for name, values in norms.items()}
    assert shares["simple"] < 1e-8, shares
    assert shares["lstm"] > 1e-3, shares


@pytest.mark.usefixtures("standard_promotion")
def test_fixed_points_of_one_unit():
    """h' = tanh(2 h): 0 is unstable with slope 2, and h = tanh(2 h) at 0.957504 twice is stable."""
    params = SimpleParams(jnp.zeros((1, 1)), jnp.array([[2.0]]), jnp.zeros(1))
    starts = jnp.linspace(-1.2, 1.2, 41)[:, None]
    points = diagnostics.fixed_points(params, jnp.zeros(1), starts, cell=SIMPLE, adam_steps=300)
    distinct = diagnostics.distinct_points(points, max_speed=1e-9)
    order = np.argsort(np.asarray(distinct.states)[:, 0])
    root = 0.9575040240772687
    np.testing.assert_allclose(np.asarray(distinct.states)[order, 0], [-root, 0, root], atol=1e-9)
    np.testing.assert_array_equal(np.asarray(distinct.num_unstable)[order], [0, 1, 0])
    np.testing.assert_allclose(np.asarray(distinct.eigenvalues)[order, 0].real, 2 * (1 - np.square([root, 0, root])))
    assert list(np.asarray(distinct.num_unstable)) == [0, 0, 1], "the stablest first"
    assert np.asarray(diagnostics.distinct_points(points, max_speed=-1.0).speeds).shape == (0,)


@pytest.mark.usefixtures("standard_promotion")
def test_fixed_points_of_an_lstm_stay_where_they_are():
    params = lj.init_params(jax.random.key(0), 2, 5, dtype=jnp.float64)
    starts = jax.tree.map(lambda leaf: leaf + 0.3, lj.zero_state(params, (4,)))
    points = diagnostics.distinct_points(
        diagnostics.fixed_points(params, jnp.zeros(2), starts, adam_steps=500), max_speed=1e-10
    )
    assert len(points.speeds) == 1
    state = jax.tree.map(lambda leaf: leaf[0], points.states)
    after, _ = lj.lstm(params, jnp.zeros((50, 2)), state)
    np.testing.assert_allclose(after.c, state.c, atol=1e-9)
    assert points.eigenvalues.shape == (1, 10)


def test_principal_components_of_a_plane():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(200, 2)) * [5.0, 1.0] @ np.linalg.qr(rng.normal(size=(6, 2)))[0].T + 3
    states = {"h": jnp.asarray(plane[:, :2]), "c": jnp.asarray(plane[:, 2:])}
    components = diagnostics.principal_components(states, 3)
    assert components.explained_variance_ratio[:2].sum() == pytest.approx(1)
    inside = diagnostics.project_onto(components, states)
    assert diagnostics.project_onto(components, {"h": jnp.zeros((0, 2)), "c": jnp.zeros((0, 4))}).shape == (0, 3)
    np.testing.assert_allclose(np.linalg.norm(inside, axis=-1), np.linalg.norm(plane - plane.mean(0), axis=-1))
