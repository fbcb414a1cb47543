"""Traces against the oracle, gate by gate, and against what every cell's equations say."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from problems import GRID, B, D, H, Options, T, arguments, assert_trees_close, flags, random_problem, tolerance
from test_cells import make_problem
from test_laws import names

import lstm_jax as lj
from lstm_jax import diagnostics, regularizers
from lstm_jax.cells import CELLS, LSTM
from lstm_jax.diagnostics import flow, traces

TOL = tolerance(jnp.float64)


def oracle_trace(problem):
    """i, f, g, o, c, h ``[T, B, H]``, row by row from the oracle's parts."""
    fields = {name: np.zeros((*problem.x.shape[:2], problem.h0.shape[-1])) for name in "ifgoch"}
    for row in range(problem.x.shape[1]):
        h, c = problem.h0[row], problem.c0[row]
        for t, fresh in oracle.reading_list(problem.taken[:, row], problem.resets[:, row], problem.reverse):
            if fresh:
                h, c = problem.h_reset[row], problem.c_reset[row]
            i, f, g, o = oracle.gates(problem.weights, problem.x[t, row], h)
            c = f * c + i * g
            h = o * np.tanh(c)
            for name, value in zip("ifgoch", (i, f, g, o, c, h), strict=True):
                fields[name][t, row] = value
    return fields


@pytest.mark.parametrize("options", GRID, ids=names)
@pytest.mark.usefixtures("short_chunks")
def test_a_trace_equals_the_oracle_gate_by_gate(options):
    for seed in range(3):
        problem = random_problem(seed, options)
        params, xs, initial, reset = arguments(problem, options)
        chosen = flags(problem, options)
        fields = diagnostics.trace(params, xs, initial, reset_state=reset, reverse=options.reverse, **chosen)
        assert set(fields) == set("ifgohc")
        for name, want in oracle_trace(problem).items():
            assert_trees_close(fields[name], want, TOL)


def before(fields, initial):
    """The state from which each step started, by letter."""
    first = traces.state_fields(initial)
    return {name: jnp.concatenate([first[name][None], fields[name][:-1]]) for name in first}


MEMORY = ("lstm", "coupled", "no_input_gate", "no_forget_gate", "no_output_gate", "capped", "janet", "relu", "peephole")
MEMORY += ("projected", "layer_norm", "batch_norm", "multiplicative", "mogrifier", "slstm", "conv_1d", "conv_2d")


@pytest.mark.parametrize("name", CELLS)
def test_a_trace_of_every_cell_obeys_its_equation(name):
    problem = make_problem(name)
    fields = diagnostics.trace(problem.params, problem.xs, problem.initial, cell=problem.cell)
    old = before(fields, problem.initial)
    if name in MEMORY:
        assert_trees_close(fields["c"], fields.get("f", 1) * old["c"] + fields.get("i", 1) * fields["g"], TOL)
    elif name in ("gru", "gru_original"):
        assert_trees_close(fields["h"], (1 - fields["z"]) * fields["n"] + fields["z"] * old["h"], TOL)
    elif name == "clipped":
        assert_trees_close(fields["c"], jnp.clip(fields["f"] * old["c"] + fields["i"] * fields["g"], -3, 3), TOL)
    elif name == "gate_norm":
        c = fields["f"] * old["c"] + fields["i"] * fields["g"]
        normal = (c - c.mean(-1, keepdims=True)) / jnp.sqrt(c.var(-1, keepdims=True) + 1e-5)
        scale, bias = (part[None, None] for part in (problem.params.memory_scale, problem.params.memory_bias))
        assert_trees_close(fields["c"], normal * scale + bias, TOL)
    elif name in ("min_gru", "min_lstm"):
        ahead = init_shifted(problem)
        assert_trees_close(ahead["h"] - fields["h"], jnp.cumprod(fields["f"], axis=0), 10 * TOL)
    else:
        assert name == "simple"
        assert list(fields) == ["h"]
    final, ys = lj.unroll(problem.cell, problem.params, problem.xs, problem.initial)
    assert_trees_close(fields["h"], ys, TOL)
    assert_trees_close({name: leaf[-1] for name, leaf in fields.items()}["h"], traces.state_fields(final)["h"], TOL)


def init_shifted(problem):
    """The trace from a state that is 1 higher: the difference fades by the share that is kept."""
    return diagnostics.trace(problem.params, problem.xs, problem.initial + 1, cell=problem.cell)


OUTPUT = {"relu": jax.nn.relu, "janet": lambda c: c}
PLAIN = [name for name in MEMORY if name not in ("layer_norm", "batch_norm", "slstm")]
"""Those whose output reads the memory itself; the tests of cells hold the others."""


@pytest.mark.parametrize("name", [*PLAIN, "clipped", "gate_norm"])
def test_the_output_gate_is_the_one_that_acts(name):
    """h = o tanh(c), or what the cell has in its place."""
    problem = make_problem(name)
    fields = diagnostics.trace(problem.params, problem.xs, problem.initial, cell=problem.cell)
    made = fields.get("o", 1) * OUTPUT.get(name, jnp.tanh)(fields["c"])
    assert_trees_close(fields["h"], made @ problem.params.projection if name == "projected" else made, TOL)


def test_the_gates_of_slstm_and_gru():
    problem = make_problem("slstm")
    fields = diagnostics.trace(problem.params, problem.xs, problem.initial, cell=problem.cell)
    assert_trees_close(fields["h"], fields["o"] * fields["c"] / fields["n"], TOL)
    problem = make_problem("gru")
    fields = diagnostics.trace(problem.params, problem.xs, problem.initial, cell=problem.cell)
    h = before(fields, problem.initial)["h"]
    params = problem.params
    a = problem.xs @ params.input_kernel + h @ params.recurrent_kernel + params.bias[None, None]
    assert_trees_close(fields["r"], jax.nn.sigmoid(a[..., :6]), TOL)


def test_gates_are_named_by_their_letters():
    assert {name: sorted(kind_of_trace(name)) for name in ("gru", "gru_original", "coupled", "janet", "min_lstm")} == {
        "gru": ["h", "n", "r", "z"],
        "gru_original": ["h", "n", "z"],
        "coupled": ["c", "f", "g", "h", "i", "o"],
        "janet": ["c", "f", "g", "h", "i"],
        "min_lstm": ["f", "h"],
    }


def kind_of_trace(name):
    params = CELLS[name].init(jax.random.key(0), D, H)
    return jax.eval_shape(lambda xs: diagnostics.trace(params, xs, cell=CELLS[name]), jnp.zeros((3, D), "float32"))


@pytest.mark.parametrize("name", ["lstm", "gru", "simple", "conv_1d"])
def test_a_traced_cell_is_run_like_the_cell_itself(name):
    """Its state and ``y`` are the cell's, bit by bit; its fields are those of ``trace``; and it is one object."""
    problem = make_problem(name)
    cell = diagnostics.traced(problem.cell)
    final, (ys, fields) = lj.unroll(cell, problem.params, problem.xs, problem.initial)
    want = lj.unroll(problem.cell, problem.params, problem.xs, problem.initial)
    jax.tree.map(np.testing.assert_array_equal, (final, ys), want)
    traced = diagnostics.trace(problem.params, problem.xs, problem.initial, cell=problem.cell)
    jax.tree.map(np.testing.assert_array_equal, fields, traced)
    assert diagnostics.traced(problem.cell) is cell


def test_no_program_without_a_trace_asks_for_gates():
    """The compiled text of ``lstm`` and its gradient is the same for a cell that has none to give."""

    def refuse(params, a, state):
        raise AssertionError("gates were asked for")

    params = lj.init_params(jax.random.key(0), D, H)
    xs = jnp.zeros((T, B, D), jnp.float32)
    texts = [
        jax.jit(jax.grad(lambda params, cell=cell: lj.unroll(cell, params, xs)[1].sum())).lower(params).as_text()
        for cell in (LSTM, LSTM._replace(gates=refuse))
    ]
    assert texts[0] == texts[1]
    with pytest.raises(AssertionError, match="gates were asked for"):
        diagnostics.trace(params, xs, cell=LSTM._replace(gates=refuse))


def test_traces_of_a_stack_are_those_of_its_layers():
    layers = lj.init_stack(jax.random.key(0), D, H, 2, bidirectional=True)
    layers = (*layers, lj.init_params(jax.random.key(1), 2 * H, 4))
    xs, lengths = jax.random.normal(jax.random.key(2), (T, B, D), jnp.float32), jnp.array([0, 3, T - 1, T])
    fields = diagnostics.trace_stack(layers, xs, lengths=lengths, between=lambda layer, inputs, outputs: 2 * outputs)
    _, ys = lj.lstm_stack(layers, xs, lengths=lengths, between=lambda layer, inputs, outputs: 2 * outputs)
    np.testing.assert_array_equal(fields[2]["h"], ys)
    assert fields[0].backward["f"].shape == (T, B, H)
    alone = diagnostics.trace(layers[0].backward, xs, lengths=lengths, reverse=True)
    np.testing.assert_array_equal(fields[0].backward["c"], alone["c"])
    gru = tuple(CELLS["gru"].init(jax.random.key(k), D if k == 0 else H, H) for k in range(2))
    assert "r" in diagnostics.trace_stack(gru, xs, cell=CELLS["gru"])[1]


def test_a_trace_maps_and_differentiates_and_sees_regularized_cells():
    params = lj.init_params(jax.random.key(0), D, H)
    xs = jax.random.normal(jax.random.key(2), (T, B, D), jnp.float32)
    mapped = jax.vmap(lambda xs: diagnostics.trace(params, xs), in_axes=1, out_axes=1)(xs)
    assert_trees_close(mapped, diagnostics.trace(params, xs), tolerance(jnp.float32))
    slope = jax.grad(lambda params: diagnostics.trace(params, xs)["f"].mean())(params)
    assert float(jnp.abs(slope.bias[H : 2 * H]).sum()) > 0
    zero = lj.zero_state(params, (B,))
    cell, inputs = regularizers.zoneout(None, LSTM, xs, lj.LSTMState(h=0.1, c=0.9), zero)
    flow_of = diagnostics.state_gradients(lambda final, ys: ys[-1].sum(), params, inputs, cell=cell)
    assert flow_of.c.shape == (T, B, H)
    assert float(jnp.abs(flow_of.c[0]).sum()) > 0
    held = diagnostics.trace(params, inputs, cell=cell)
    assert float(jnp.abs(held["c"]).mean()) < float(jnp.abs(mapped["c"]).mean())


def test_units_of_known_gates():
    f = jnp.full((10, 2, 3), jnp.exp(-1 / 50))
    fields = {"f": f, "i": 1 - f, "o": jnp.zeros_like(f), "c": jnp.concatenate([f[:5], 3 * f[:5]])}
    mask = lj.lengths_to_mask(jnp.array([10, 4]), 10)
    stats = diagnostics.unit_stats(fields, mask)
    np.testing.assert_allclose(stats.time_constant, 50, rtol=1e-6)
    assert stats.open_fractions.keys() == {"f", "i", "o"}
    np.testing.assert_array_equal(stats.open_fractions["f"], np.ones(3))
    np.testing.assert_array_equal(stats.closed_fractions["o"], np.ones(3))
    np.testing.assert_allclose(stats.saturated_fraction, np.full(3, 5 / 14))
    with pytest.raises(ValueError, match="want a trace with a gate f or z"):
        diagnostics.unit_stats({"h": f})
    with pytest.raises(ValueError, match=r"mask: got int64 \(2,\), want bool"):
        diagnostics.unit_stats(fields, jnp.array([10, 4]))
    forever = diagnostics.unit_stats({"f": jnp.ones((5, 2)), "h": jnp.ones((5, 2))})
    assert (forever.time_constant > 1e30).all()
    gru = diagnostics.unit_stats(diagnostics.trace(*gru_problem(), cell=CELLS["gru"]))
    assert ((gru.time_constant > 0) & (gru.retention > 0) & (gru.retention < 1)).all()


def gru_problem():
    return CELLS["gru"].init(jax.random.key(0), D, H), jax.random.normal(jax.random.key(1), (T, D), jnp.float32)


@pytest.mark.parametrize("name", CELLS)
def test_state_gradients_are_those_of_the_steps_after(name):
    problem = make_problem(name)
    xs, cell, params = problem.xs[:5], problem.cell, problem.params

    def loss(final, ys):
        return jnp.sin(ys).sum() + sum(jnp.cos(leaf).sum() for leaf in jax.tree.leaves(final))

    gradients = flow.state_gradients(loss, params, xs, problem.initial, cell=cell)
    for t in range(5):
        entering, _ = lj.unroll(cell, params, xs[:t], problem.initial)
        want = jax.grad(lambda state, t=t: loss(*lj.unroll(cell, params, xs[t:], state)))(entering)
        assert_trees_close(jax.tree.map(lambda leaf, t=t: leaf[t], gradients), want, TOL)


def test_state_gradients_with_lengths_and_resets():
    options = Options("lengths", "none", True)
    problem = random_problem(1, options)
    params, xs, initial, _ = arguments(problem, options)
    lengths = flags(problem, options)["lengths"]
    gradients = flow.state_gradients(
        lambda final, ys: final.c.sum(), params, xs, initial, lengths=lengths, reverse=True
    )
    assert (np.abs(gradients.c)[problem.taken] > 0).all()
    assert (np.asarray(gradients.c)[~problem.taken] == 0).all()
    resets = jnp.zeros((T, B), bool).at[9].set(True)
    cut = flow.state_gradients(lambda final, ys: ys[-1].sum(), params, jnp.nan_to_num(xs), resets=resets)
    assert (np.abs(cut.c[9:]) > 0).all()
    assert (np.asarray(cut.c[:9]) == 0).all()


def test_state_gradients_of_a_stack():
    """Those of the top layer are those of the layer alone; the first below are those of the initial states."""
    layers = (*lj.init_stack(jax.random.key(0), D, 3, 1, bidirectional=True, dtype=jnp.float64),)
    layers = (*layers, lj.init_params(jax.random.key(1), 6, 4, dtype=jnp.float64))
    xs = jax.random.normal(jax.random.key(2), (6, B, D))
    lengths = jnp.array([6, 3, 6, 1])

    def loss(finals, ys):
        return jnp.sin(ys).sum() + finals[-1].c.sum()

    gradients = diagnostics.state_gradients_stack(loss, layers, xs, lengths=lengths)
    _, inner = lj.lstm_stack(layers[:1], xs, lengths=lengths)
    top = diagnostics.state_gradients(lambda final, ys: loss((final,), ys), layers[1], inner, lengths=lengths)
    assert_trees_close(gradients[1], top, TOL)
    zero = lj.stack_zero_state(layers, (B,))
    want = jax.grad(lambda states: loss(*lj.lstm_stack(layers, xs, states, lengths=lengths)))(zero)
    assert_trees_close(jax.tree.map(lambda leaf: leaf[0], gradients[0].forward), want[0].forward, TOL)
    last = np.asarray(lengths) - 1
    backward = jax.tree.map(lambda leaf: leaf[last, np.arange(B)], gradients[0].backward)
    assert_trees_close(backward, want[0].backward, TOL)
    gru = (CELLS["gru"].init(jax.random.key(3), D, 3, dtype=jnp.float64),)
    cell = CELLS["gru"]
    assert_trees_close(
        diagnostics.state_gradients_stack(lambda finals, ys: ys.sum(), gru, xs, cell=cell)[0],
        diagnostics.state_gradients(lambda final, ys: ys.sum(), gru[0], xs, cell=cell),
        TOL,
    )


def test_everything_on_arrays_compiles():
    params = lj.init_params(jax.random.key(0), D, 3, dtype=jnp.float64)

    @jax.jit
    def run_all(params, xs):
        fields = diagnostics.trace(params, xs)
        jacobians = diagnostics.state_jacobians(params, xs)
        flow = diagnostics.state_gradients(lambda final, ys: ys[-1].sum(), params, xs)

        def score(xs):
            return lj.lstm(params, xs)[1].sum()

        contributions = (
            diagnostics.integrated_gradients(score, xs, num_points=4).per_step,
            diagnostics.occlusion(score, xs),
        )
        plane = diagnostics.principal_components({"h": fields["h"]})
        exponents = diagnostics.lyapunov_exponents(jacobians), diagnostics.product_spectra(jacobians)
        return (
            diagnostics.unit_stats(fields),
            flow,
            contributions,
            diagnostics.project_onto(plane, {"h": fields["h"]}),
            exponents,
        )

    results = run_all(params, jax.random.normal(jax.random.key(1), (5, D)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results))


def test_a_model_from_pytorch_is_traced():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model = torch.nn.LSTM(D, H)
    params = lj.interop.torch.import_lstm(model.state_dict())
    xs = np.random.default_rng(0).normal(size=(T, B, D)).astype(np.float32)
    fields = diagnostics.trace_stack(params, xs)[0]
    with torch.no_grad():
        ys, (_, c) = model(torch.from_numpy(xs))
    assert_trees_close((fields["h"], fields["c"][-1]), (ys.numpy(), c[0].numpy()), 1e-5)
