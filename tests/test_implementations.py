"""The choice among implementations, and cuDNN with the library's own reference in its place."""

from functools import partial

import jax
import jax.numpy as jnp
import oracle
import pytest
from jax.experimental import rnn
from jax.extend.core import Primitive
from jax.interpreters import mlir
from problems import FLOAT, GRID, arguments, assert_trees_close, cotangents, flags, random_problem, tolerance, weigh

import lstm_jax as lj
from lstm_jax._core import tuning
from lstm_jax._core.implementations import cudnn, mosaic_gpu, table
from lstm_jax._core.implementations.spec import CallSpec
from lstm_jax._core.implementations.table import TABLE, Implementation

LENGTHS_ONLY = [options for options in GRID if options.steps != "mask" and options.resets == "none"]


def opaque(function):
    """A primitive that means a function and has no rule to differentiate or to map it, as a library's program."""
    primitive = Primitive("opaque")
    primitive.multiple_results = True

    def flat(*arrays):
        return jax.tree.leaves(function(*arrays))

    primitive.def_impl(lambda *arrays: jax.jit(primitive.bind)(*arrays))
    primitive.def_abstract_eval(lambda *avals: jax.make_jaxpr(flat)(*avals).out_avals)
    mlir.register_lowering(primitive, mlir.lower_fun(flat, multiple_results=True))
    return primitive.bind


@pytest.fixture
def reference(monkeypatch):
    """The LSTM in plain JAX that ``jax.experimental.rnn`` is tested against, behind the signature of its binding and as
    unable as that: a program forward and one backward."""

    def lstm(x, h_0, c_0, weights, seq_lengths, **sizes):
        inputs, units = sizes["input_size"], sizes["hidden_size"]

        def plain(x, h_0, c_0, weights, seq_lengths):
            layers = rnn.unpack_lstm_weights(weights, inputs, units, 1, False)
            return rnn.lstm_ref(x, h_0, c_0, *layers, seq_lengths, inputs, units, 1, 0.0, False)

        def back(x, h_0, c_0, weights, seq_lengths, *cotangents):
            return jax.vjp(lambda *moving: plain(*moving, seq_lengths), x, h_0, c_0, weights)[1](cotangents)

        run, run_back = opaque(plain), opaque(back)
        call = jax.custom_vjp(lambda *arrays: tuple(run(*arrays)))
        call.defvjp(
            lambda *arrays: (tuple(run(*arrays)), arrays),
            lambda kept, cotangents: (*run_back(*kept, *cotangents), None),
        )
        return call(x, h_0, c_0, weights, seq_lengths)

    run = partial(cudnn.run, rnn_lstm=lstm)
    monkeypatch.setitem(TABLE, "cudnn", Implementation(cudnn.why_not_on_a_gpu, is_complete=False, run=run))


@pytest.mark.parametrize("options", LENGTHS_ONLY, ids=str)
def test_cudnn_equals_the_oracle(options, reference):
    for seed in range(3):
        problem = random_problem(seed, options)
        args, chosen, weights = arguments(problem, options, FLOAT), flags(problem, options), cotangents(seed)

        def loss(params, xs, initial, chosen=chosen, weights=weights):
            result = lj.lstm(params, xs, initial, reverse=options.reverse, implementation="cudnn", **chosen)
            return weigh(result, weights), result

        (_, ((h, c), ys)), found = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(*args[:3])
        assert_trees_close((h, c, ys), oracle.run(problem), tolerance(FLOAT))
        want = oracle.gradient(problem, *weights)
        for got, expected in zip(found, (want.weights, want.x, (want.h0, want.c0)), strict=True):
            assert_trees_close(got, expected, tolerance(FLOAT))


def test_cudnn_takes_any_batch_axes(reference):
    params = lj.init_params(jax.random.key(0), 2, 3)
    for batch in ((), (2, 3)):
        xs = jax.random.normal(jax.random.key(1), (5, *batch, 2), FLOAT)
        got, want = (lj.lstm(params, xs, implementation=name) for name in ("cudnn", "scan"))
        assert_trees_close(got, want, tolerance(FLOAT))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dtype": jnp.bfloat16}, "float32 only, xs is bfloat16"),
        ({"mask": jnp.ones((4, 2), bool)}, "no mask"),
        ({"resets": jnp.ones((4, 2), bool)}, "no resets"),
        ({"remat": "gates"}, "leave out remat"),
        ({"time": 65536}, "at most 65535 steps, xs has 65536"),
        ({"time": 0}, "no empty arrays"),
    ],
    ids=str,
)
def test_what_cudnn_refuses(changes, reason, reference):
    dtype, time = changes.pop("dtype", FLOAT), changes.pop("time", 4)
    params, xs = lj.init_params(jax.random.key(0), 2, 3, dtype=dtype), jnp.zeros((time, 2, 2), dtype)
    with pytest.raises(ValueError, match=f"implementation: got 'cudnn', but .*{reason}"):
        lj.lstm(params, xs, implementation="cudnn", **changes)
    assert lj.lstm(params, xs, **changes)[1].shape == (time, 2, 3), "None takes another one"


TRANSFORMED = {
    "vmap": (lambda f, w: jax.vmap(f)(jnp.stack([w, w])), "vmap"),
    "jacrev": (lambda f, w: jax.jacrev(f)(w), "vmap"),
    "jvp": (lambda f, w: jax.jvp(f, (w,), (w,)), "forward-mode"),
    "linearized": (lambda f, w: jax.linearize(f, w)[1](w), "forward-mode"),
    "jacfwd": (lambda f, w: jax.jacfwd(f)(w), "forward-mode"),
    "hessian": (lambda f, w: jax.hessian(lambda v: f(v).sum())(w), "second|forward-mode"),
    "grad of grad": (lambda f, w: jax.grad(lambda v: jax.grad(lambda u: f(u).sum())(v).sum())(w), "second"),
    "jvp of grad": (lambda f, w: jax.jvp(jax.grad(lambda u: f(u).sum()), (w,), (w,)), "second"),
}


@pytest.mark.parametrize("transformed", TRANSFORMED)
def test_transformations_that_cudnn_refuses(transformed, reference):
    """Of each argument alone."""
    params, xs = lj.init_params(jax.random.key(0), 2, 3), jnp.ones((4, 1, 2), FLOAT)
    state = lj.zero_state(params, (1,))
    transform, what = TRANSFORMED[transformed]
    for place, at in enumerate((params.bias, xs, state.h)):

        def run(one, place=place):
            bias, xs_, h = (one if k == place else other for k, other in enumerate((params.bias, xs, state.h)))
            changed = params._replace(bias=bias), xs_, state._replace(h=h)
            return lj.lstm(*changed, implementation="cudnn")[1]

        for f in (run, jax.jit(run)):
            with pytest.raises(ValueError, match=f"implementation: got 'cudnn', which has no .*({what})"):
                transform(f, at)


def test_cudnn_refuses_what_comes_from_behind_or_by_lengths(reference):
    """Cotangents that are mapped or differentiated, by a layer on top; and lengths that are mapped."""
    params, xs = lj.init_params(jax.random.key(0), 2, 3), jnp.ones((4, 1, 2), FLOAT)

    def loss(params, head):
        return (head * lj.lstm(params, xs, implementation="cudnn")[1]).sum()

    def by_lengths(lengths):
        return lj.lstm(params, xs, lengths=lengths[None], implementation="cudnn")[1]

    gradient, heads = jax.grad(loss), jnp.ones((2, 1, 1, 3), FLOAT)
    for transformed, what in (
        (lambda: jax.vmap(gradient, (None, 0))(params, heads), "vmap"),
        (lambda: jax.jvp(partial(gradient, params), (heads[0],), (heads[0],)), "second"),
        (lambda: jax.grad(lambda head: gradient(params, head).bias.sum())(heads[0]), "second"),
        (lambda: jax.vmap(by_lengths)(jnp.array([2, 4])), "vmap"),
    ):
        with pytest.raises(ValueError, match=f"implementation: got 'cudnn', which has no .*{what}"):
            transformed()
    assert jax.grad(loss, (0, 1))(params, heads[0])[1].shape == heads[0].shape


def test_cudnn_is_differentiated_once_under_jit_and_checkpoint(reference):
    params, xs = lj.init_params(jax.random.key(0), 2, 3), jnp.ones((4, 1, 2), FLOAT)

    def loss(params, implementation):
        run = partial(lj.lstm, xs=xs, implementation=implementation)
        return jax.jit(jax.checkpoint(run))(params)[1].sum()

    got, want = (jax.jit(jax.grad(partial(loss, implementation=name)))(params) for name in ("cudnn", None))
    assert_trees_close(got, want, tolerance(FLOAT))


def test_no_gpu_is_a_reason():
    params, xs = lj.init_params(jax.random.key(0), 2, 3), jnp.zeros((4, 2, 2), FLOAT)
    for name in ("cudnn", "mosaic_gpu"):
        with pytest.raises(ValueError, match=f"implementation: got {name!r}, but .*(default device is cpu|jax 0.11)"):
            lj.lstm(params, xs, implementation=name)
    with pytest.raises(ValueError, match="implementation: got 'cuda', want one of 'scan', 'cudnn', 'mosaic_gpu'"):
        lj.lstm(params, xs, implementation="cuda")
    lines = lj.explain(params, xs, lj.zero_state(params, (2,)), reverse=True).splitlines()
    assert [line.split()[:2] for line in lines] == [["scan", "runs:"], ["cudnn", "cannot:"], ["mosaic_gpu", "cannot:"]]


def test_what_the_kernel_refuses(monkeypatch):
    on_hopper = TABLE["mosaic_gpu"]._replace(why_not=mosaic_gpu.why_not_on_hopper)
    monkeypatch.setitem(TABLE, "mosaic_gpu", on_hopper)
    monkeypatch.setattr(jax, "__version_info__", (0, 11, 0))
    for dtype, units, reason in (
        (jnp.float16, 8, "for bfloat16 and float32, xs is float16"),
        (jnp.float64, 8, "xs is float64"),
        (FLOAT, 65, "at most 64 in float32"),
        (jnp.bfloat16, 129, "at most 128 in bfloat16"),
    ):
        params, xs = lj.init_params(jax.random.key(0), 2, units, dtype=dtype), jnp.zeros((4, 2), dtype)
        with pytest.raises(ValueError, match=reason):
            lj.lstm(params, xs, implementation="mosaic_gpu")


def test_none_follows_the_table_of_crossovers(monkeypatch):
    """A row is taken where platform, dtype and size fit, and the implementation can run and lacks nothing."""
    params, xs = lj.init_params(jax.random.key(0), 2, 8), jnp.zeros((4, 2), FLOAT)
    spec = CallSpec(xs, 8, None, None, None)
    assert table.choose(None, spec)[0] == "scan"
    for name in ("mosaic_gpu", "cudnn"):
        monkeypatch.setitem(TABLE, name, TABLE[name]._replace(why_not=lambda spec: None))
    for row, chosen in (
        (("cpu", "mosaic_gpu", "float32", 1, 64), "mosaic_gpu"),
        (("gpu", "mosaic_gpu", "float32", 1, 64), "scan"),
        (("cpu", "mosaic_gpu", "bfloat16", 1, 64), "scan"),
        (("cpu", "mosaic_gpu", "float32", 9, 64), "scan"),
        (("cpu", "cudnn", "float32", 1, 64), "scan"),
    ):
        monkeypatch.setattr(tuning, "CROSSOVERS", (row,))
        assert table.choose(None, spec)[0] == chosen
        assert f"{chosen:12} runs: " in lj.explain(params, xs)


def test_a_stack_hands_the_name_to_each_layer(reference):
    layers = lj.init_stack(jax.random.key(0), 3, 4, 2, bidirectional=True)
    xs, lengths = jax.random.normal(jax.random.key(1), (5, 2, 3), FLOAT), jnp.array([5, 2])
    got, want = (lj.lstm_stack(layers, xs, lengths=lengths, implementation=name) for name in ("cudnn", None))
    assert_trees_close(got, want, tolerance(FLOAT))
    with pytest.raises(ValueError, match="implementation: got 'cudnn', but it takes lengths, and no mask"):
        lj.lstm_stack(layers, xs, mask=jnp.ones((5, 2), bool), implementation="cudnn")
    projected = lj.cells.CELLS["projected"].init(jax.random.key(2), 3, 4, projection_size=2)
    with pytest.raises(ValueError, match="implementation: got 'cudnn' for ProjectedLSTMParams, want 'scan' or None"):
        lj.lstm_stack((projected,), xs, implementation="cudnn")
    assert lj.lstm_stack((projected,), xs, implementation="scan")[1].shape[:2] == (5, 2)
