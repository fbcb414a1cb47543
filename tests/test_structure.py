"""Laws on what is compiled: products, memory, all-reduces, operations, export. Exact, so they belong in tests."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from problems import FLOAT, shaped

import lstm_jax as lj
from benchmarks.hlo import computations
from lstm_jax._core import chunks, tangents, tuning
from lstm_jax.cells import PEEPHOLE_LSTM, PeepholeParams


def equations(jaxpr):
    """All equations of a jaxpr, inner ones included."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda value: hasattr(value, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def primitives(jaxpr):
    return {equation.primitive.name for equation in equations(jaxpr)}


def reached(inside, name):
    """The text of a computation and of all it calls, loops apart."""
    body = inside[name]
    lines = [line for line in body.splitlines() if not re.search(r"= [^=]*\bwhile\(", line)]
    called = [callee for line in lines for callee in re.findall(r"(?:calls|to_apply|body)=%?([\w.\-]+)", line)]
    return "\n".join(lines) + "".join(reached(inside, callee) for callee in called if callee in inside)


def innermost_loops(text):
    """The bodies of the loops that hold no loop, with everything they call."""
    inside = computations(text)
    bodies = set(re.findall(r"body=%?([\w.\-]+)", text))
    assert bodies, "no loop found: the HLO is not read as it is written"
    return [reached(inside, name) for name in bodies if " while(" not in inside[name]]


def count_dots(text):
    return len(re.findall(r"= \S+ dot\(", text))


def loss_and_shapes(cell, remat, *, time=128, batch=4, inputs=8, hidden=16):
    shared = (shaped(inputs, 4 * hidden), shaped(hidden, 4 * hidden), shaped(4 * hidden))
    params = lj.LSTMParams(*shared) if cell is lj.cells.LSTM else PeepholeParams(*shared, shaped(3 * hidden))

    def loss(params, xs, weight):
        return jnp.sum(lj.unroll(cell, params, xs, remat=remat)[1] * weight)

    return loss, (params, shaped(time, batch, inputs), shaped(time, batch, hidden))


CELLS = {"lstm": lj.cells.LSTM, "peephole": PEEPHOLE_LSTM}
every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS.keys())
every_name = pytest.mark.parametrize("remat", ["gates", "states"])


@pytest.mark.parametrize(("wrt", "products"), [("bias", 3), ("xs", 4), ("initial", 3)])
def test_what_is_not_differentiated_costs_nothing(wrt, products):
    """Forward: project and h R. Backward: da R^T, and da W^T for the inputs. No product for weights held fixed."""
    loss, (params, xs, weight) = loss_and_shapes(lj.cells.LSTM, "gates")

    def of_one(part, params, xs, weight):
        if wrt == "bias":
            return loss(params._replace(bias=part), xs, weight)
        if wrt == "xs":
            return loss(params, part, weight)
        state = lj.LSTMState(part, part)
        return jnp.sum(lj.lstm(params, xs, state, remat="gates")[1] * weight)

    part = {"bias": params.bias, "xs": xs, "initial": shaped(4, 16)}[wrt]
    text = jax.jit(jax.grad(of_one)).lower(part, params, xs, weight).compile().as_text()
    assert count_dots(text) == products


@pytest.mark.parametrize(("wrt", "products"), [("bias", 3), ("everything", 6)])
def test_forward_mode_drops_tangents_that_are_zero(wrt, products, monkeypatch):
    """Along the bias alone: x W, h R and dh R; along everything dx W, x dW and h dR besides."""
    monkeypatch.setitem(tuning.SCAN_CONFIGS, "cpu", tuning.SCAN_CONFIGS["cpu"]._replace(max_chunk_steps=8))
    loss, (params, xs, weight) = loss_and_shapes(lj.cells.LSTM, "gates", time=48)

    def along(params, xs, weight):
        if wrt == "bias":
            of_bias = lambda bias: loss(params._replace(bias=bias), xs, weight)  # noqa: E731
            return jax.jvp(of_bias, (params.bias,), (params.bias,))
        return jax.jvp(lambda params, xs: loss(params, xs, weight), (params, xs), (params, xs))

    assert count_dots(jax.jit(along).lower(params, xs, weight).compile().as_text()) == products


def test_remat_none_saves_gates_up_to_a_limit_and_states_beyond():
    def jaxpr(remat, time):
        loss, shapes = loss_and_shapes(lj.cells.LSTM, remat, time=time, hidden=64)
        return str(jax.make_jaxpr(jax.grad(loss))(*shapes))

    below, beyond = tuning.MAX_SAVED_GATES_CELLS // 64, tuning.MAX_SAVED_GATES_CELLS // 64 + 64
    assert jaxpr(None, below) == jaxpr("gates", below) != jaxpr("states", below)
    assert jaxpr(None, beyond) == jaxpr("states", beyond) != jaxpr("gates", beyond)


def test_only_parameters_read_by_update_have_a_tangent_there():
    params = PeepholeParams(*(jnp.ones(shape) for shape in ((8, 16), (4, 16), (16,), (12,))))
    state = lj.LSTMState(jnp.ones((2, 4)), jnp.ones((2, 4)))
    blocks = (jnp.ones((2, 4)),) * 4
    used = tangents.drop_unused(lambda params: PEEPHOLE_LSTM.update(params, blocks, state), params, params)
    assert [leaf is None for leaf in used] == [True, True, True, False]
    used = tangents.drop_unused(lambda params: lj.cells.LSTM.update(params, jnp.ones((2, 16)), state), params, params)
    assert jax.tree.leaves(used) == []


@every_cell
@every_name
def test_each_loop_over_time_holds_one_product(cell, remat, monkeypatch):
    """Forward h R, backward da R^T; projections, gate recomputation and weight gradients are outside."""
    monkeypatch.setitem(tuning.SCAN_CONFIGS, "cpu", tuning.SCAN_CONFIGS["cpu"]._replace(max_chunk_steps=8))
    loss, shapes = loss_and_shapes(cell, remat, time=24, hidden=12 if remat == "gates" else 20)
    text = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*shapes).compile().as_text()
    dots = sorted(count_dots(body) for body in innermost_loops(text))
    assert [count for count in dots if count] == [1, 1]
    # forward: project. backward: da W^T and two weight gradients, and with "states" the gates again (x W and h R)
    assert count_dots(text) == 2 + 1 + (3 if remat == "gates" else 5)


@every_name
def test_the_loops_of_both_directions_read_the_kernel_along_memory(remat, monkeypatch):
    """No product in a loop over time contracts the last axis of its kernel: the transposed copy is made outside."""
    monkeypatch.setitem(tuning.SCAN_CONFIGS, "cpu", tuning.SCAN_CONFIGS["cpu"]._replace(max_chunk_steps=8))
    loss, shapes = loss_and_shapes(lj.cells.LSTM, remat, time=32, hidden=28)
    text = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*shapes).compile().as_text()
    axes = [re.findall(r" dot\(.*rhs_contracting_dims={(\d)}", body) for body in innermost_loops(text)]
    assert sorted(axes) == [["0"], ["0"]]


def loops_over_time(loss, shapes):
    """The bodies of the innermost scans that hold a product, in the jaxpr of the gradient: forward, backward."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(tuning.SCAN_CONFIGS, "cuda")  # a jaxpr holds the loops of every platform that has its own
        jaxpr = jax.make_jaxpr(jax.grad(loss, (0, 1)))(*shapes).jaxpr
    bodies = [equation.params["jaxpr"].jaxpr for equation in equations(jaxpr) if equation.primitive.name == "scan"]
    over_time = [body for body in bodies if "dot_general" in primitives(body) and "scan" not in primitives(body)]
    assert len(over_time) == 2, "want one loop forward and one backward"
    return over_time


def test_what_is_the_same_at_all_steps_is_not_repeated_for_each():
    """The coefficients of a chunk: six arrays for an LSTM; the projection is none of them."""
    chunk, batch, hidden, width = 8, 4, 6, 5
    a, state = shaped(chunk, batch, 4 * hidden), lj.LSTMState(*(shaped(chunk, batch, hidden),) * 2)

    def shapes(cell, params, state):
        make = lambda params, *args: tangents.linearize_steps(partial(cell.update, params), *args)[0]  # noqa: E731
        return sorted(leaf.shape for leaf in jax.eval_shape(make, params, a, state))

    assert shapes(lj.cells.LSTM, None, state) == [(chunk, batch, hidden)] * 6
    params = lj.cells.ProjectedLSTMParams(shaped(1), shaped(1), shaped(1), shaped(hidden, width))
    narrow = state._replace(h=shaped(chunk, batch, width))
    assert shapes(lj.cells.PROJECTED_LSTM, params, narrow) == [(chunk, batch, hidden)] * 6


@every_cell
@every_name
def test_only_the_forward_loop_evaluates_tanh(cell, remat):
    forward, backward = map(primitives, loops_over_time(*loss_and_shapes(cell, remat)))
    assert forward & {"tanh", "logistic"}
    assert not backward & {"tanh", "logistic"}


def weights_summed_in_loops_over_time(loss, shapes):
    """Outputs of the loops' bodies that are shaped like a parameter."""
    weights = {leaf.shape for leaf in jax.tree.leaves(shapes[0])}
    return sum(var.aval.shape in weights for body in loops_over_time(loss, shapes) for var in body.outvars)


@every_cell
@every_name
def test_no_weight_gradient_is_summed_inside_the_loop_over_time(cell, remat):
    loss, shapes = loss_and_shapes(cell, remat)
    assert weights_summed_in_loops_over_time(loss, shapes) == 0


@every_cell
@every_name
def test_no_all_reduce_inside_a_loop_over_time(cell, remat):
    mesh = Mesh(jax.devices()[:2], ("data",))
    loss, (params, xs, weight) = loss_and_shapes(cell, remat)
    split = NamedSharding(mesh, PartitionSpec(None, "data"))
    whole = NamedSharding(mesh, PartitionSpec())

    gradient = jax.jit(jax.grad(loss), in_shardings=(whole, split, split), out_shardings=whole)
    text = gradient.lower(params, xs, weight).compile().as_text()
    assert "all-reduce" in text
    assert not any("all-reduce" in body for body in innermost_loops(text))
    assert "all-gather" not in text, "a device gathers what it has no need of"


def test_a_plain_scan_breaks_the_two_laws_above():
    """Shows that they can fail: plain autodiff sums weight gradients, and reduces them, at every step."""
    mesh = Mesh(jax.devices()[:2], ("data",))
    _, (params, xs, weight) = loss_and_shapes(lj.cells.LSTM, None)
    split, whole = NamedSharding(mesh, PartitionSpec(None, "data")), NamedSharding(mesh, PartitionSpec())

    def loss(params, xs, weight):
        body = partial(lj.lstm_cell, params)
        return jnp.sum(jax.lax.scan(body, lj.zero_state(params, (4,)), xs)[1] * weight)

    assert weights_summed_in_loops_over_time(loss, (params, xs, weight)) == 3
    gradient = jax.jit(jax.grad(loss), in_shardings=(whole, split, split), out_shardings=whole)
    text = gradient.lower(params, xs, weight).compile().as_text()
    assert any("all-reduce" in body for body in innermost_loops(text))


def test_compiled_size_does_not_depend_on_time():
    def lines(time):
        loss, shapes = loss_and_shapes(lj.cells.LSTM, "states", time=time)
        return len(jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*shapes).compile().as_text().splitlines())

    assert lines(1024) == lines(128)


def test_value_and_grad_exports_for_cpu_cuda_and_tpu():
    """The same program is meant for all three."""
    loss, shapes = loss_and_shapes(lj.cells.LSTM, "states")
    exported = jax.export.export(jax.jit(jax.value_and_grad(loss, (0, 1))), platforms=("cpu", "cuda", "tpu"))(*shapes)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    arguments = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, leaf.dtype), shapes)
    want = jax.jit(jax.value_and_grad(loss, (0, 1)))(*arguments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8), exported.call(*arguments), want)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("length", "limit"), [(1, 4), (4, 4), (5, 4), (7, 16), (12, 5), (13, 5), (32, 16)])
def test_scan_in_chunks_is_a_scan(length, limit, reverse):
    def body(carry, x):
        return carry * 0.5 + x, carry - x

    xs = np.arange(float(length))
    want = jax.jit(lambda xs: jax.lax.scan(body, 1.0, xs, reverse=reverse))(xs)

    def chunk(carry, xs, saved):
        carry, ys = jax.lax.scan(body, carry, xs, reverse=reverse)
        return carry, ys, xs if saved is None else xs - saved

    @jax.jit
    def in_chunks(xs):
        carry, ys, saved = chunks.scan_chunks(chunk, 1.0, xs, limit, reverse)
        return (carry, ys), chunks.scan_chunks(chunk, 1.0, xs, limit, reverse, saved)[2]

    got, difference = in_chunks(xs)
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(difference)), "what was saved comes back to its own chunk"


@pytest.mark.parametrize(
    ("length", "limit", "want"), [(12, 5, (3, 4)), (13, 5, (2, 5)), (5, 4, (1, 4)), (32, 16, (2, 16))]
)
def test_chunks_divide_time_evenly_unless_they_would_be_small(length, limit, want):
    """(number of chunks, their size): 12 is cut into fours, 13 has no divisor near 5."""

    def cut(xs):
        body = lambda carry, xs, _: (carry, xs, xs)  # noqa: E731
        return chunks.scan_chunks(body, 0.0, xs, limit, False)[2].full

    assert jax.eval_shape(cut, jnp.zeros(length)).shape == want


def test_a_profile_reads_like_the_code():
    """Operations carry the names of the parts of the engine, and of the layers of a stack."""
    layers = jax.eval_shape(lambda: lj.init_stack(jax.random.key(0), 8, 16, 2, bidirectional=True, dtype=FLOAT))

    def loss(layers, xs):
        return jnp.sum(lj.lstm_stack(layers, xs)[1])

    text = jax.jit(jax.grad(loss)).lower(layers, shaped(128, 4, 8)).compile().as_text()
    names = set(re.findall(r'op_name="([^"]*)"', text))
    for part in ("input_projection", "time_loop", "input_projection_tangent", "time_loop_tangent"):
        for layer in ("layer_0", "layer_1"):
            for direction in ("forward", "backward"):
                wanted = re.compile(rf"{layer}\b.*\b{direction}\b.*\brecurrent_layer\b.*/{part}\b")
                assert any(map(wanted.search, names)), (part, layer, direction)
