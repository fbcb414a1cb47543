"""ONNX models of our layers, run by onnxruntime."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax import interop
from lstm_jax.cells import PROJECTED_LSTM

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

T, B, D, H = 9, 3, 4, 5


def data(count, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return draw(T, B, D), draw(count, B, H), draw(count, B, H)


@pytest.mark.parametrize("lengths", [None, [T, 4, 0]], ids=["full", "ragged"])
@pytest.mark.parametrize("initial", [False, True], ids=["zeros", "initial"])
@pytest.mark.parametrize("kind", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layers", [1, 3])
def test_onnxruntime_agrees(layers, kind, initial, lengths, tmp_path):
    bidirectional, reverse = kind == "bidirectional", kind == "reverse"
    stack = lj.init_stack(jax.random.key(0), D, H, layers, bidirectional=bidirectional, scheme="torch")
    xs, h, c = data(layers * (1 + bidirectional))
    path = tmp_path / "lstm.onnx"
    model = interop.onnx.export_lstm(stack, use_lengths=lengths is not None, use_initial_state=initial, reverse=reverse)
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {"xs": xs}
    if lengths is not None:
        feed["lengths"] = np.array(lengths, np.int32)
    if initial:
        feed |= {"h_0": h, "c_0": c}
    assert {value.name for value in session.get_inputs()} == set(feed)
    want = session.run(["ys", "h_n", "c_n"], feed)

    states = interop.torch.import_state(h, c, bidirectional=bidirectional) if initial else None
    given_lengths = None if lengths is None else jnp.array(lengths)
    finals, ys = lj.lstm_stack(stack, jnp.asarray(xs), states, lengths=given_lengths, reverse=reverse)
    for got, other in zip((ys, *interop.torch.export_state(finals)), want, strict=True):
        np.testing.assert_allclose(got, other, rtol=0, atol=1e-5)


def test_time_and_batch_are_free():
    stack = lj.init_stack(jax.random.key(0), D, H, 1)
    session = onnxruntime.InferenceSession(interop.onnx.export_lstm(stack).SerializeToString())
    for shape in ((2, 1, D), (17, 6, D)):
        xs = np.ones(shape, np.float32)
        np.testing.assert_allclose(
            session.run(["ys"], {"xs": xs})[0], lj.lstm_stack(stack, jnp.asarray(xs))[1], atol=1e-5
        )


def test_weights_may_be_numpy_arrays():
    stack = jax.tree.map(np.asarray, lj.init_stack(jax.random.key(0), D, H, 1))
    session = onnxruntime.InferenceSession(interop.onnx.export_lstm(stack).SerializeToString())
    xs = np.ones((2, 1, D), np.float32)
    np.testing.assert_allclose(session.run(["ys"], {"xs": xs})[0], lj.lstm_stack(stack, xs)[1], atol=1e-5)


def faults():
    plain, both = (lj.init_stack(jax.random.key(0), D, H, 1, bidirectional=flag) for flag in (False, True))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), plain)
    return {
        "projected": (
            lambda: interop.onnx.export_lstm((PROJECTED_LSTM.init(jax.random.key(0), D, H, projection_size=2),)),
            r"layers\[0\]: got ProjectedLSTMParams, want LSTMParams",
        ),
        "widths": (
            lambda: interop.onnx.export_lstm((*plain, lj.init_params(jax.random.key(0), H, 3))),
            "layers: got layers of different widths",
        ),
        "reverse": (lambda: interop.onnx.export_lstm(both, reverse=True), "reverse: got True, but the layers are"),
        "dtype": (lambda: interop.onnx.export_lstm(half), r"layers\[0\]: got bfloat16, want float16"),
    }


@pytest.mark.parametrize("name", faults())
def test_what_cannot_be_converted_is_named(name):
    call, message = faults()[name]
    with pytest.raises(ValueError, match=message):
        call()
