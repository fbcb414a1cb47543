"""Weights in safetensors files, and whole programs through ``jax.export``, read again in another process."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from problems import assert_trees_close

import lstm_jax as lj
from lstm_jax import interop
from lstm_jax._core.extras import import_extra

KEY = jax.random.key(0)


def test_any_tree_comes_back_bit_by_bit(tmp_path):
    layers = lj.init_stack(KEY, 4, 5, 2, bidirectional=True)
    path = tmp_path / "stack.safetensors"
    interop.safetensors.save(path, layers)
    assert_trees_close(interop.safetensors.load(path, layers), layers, 0)
    assert "1.backward.recurrent_kernel" in interop.safetensors.load_arrays(path)
    assert [file.name for file in tmp_path.iterdir()] == ["stack.safetensors"]


def test_two_arrays_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"two arrays of the name 'a\.b', want keys without a dot"):
        interop.safetensors.save(tmp_path / "file", {"a.b": jnp.ones(1), "a": {"b": jnp.zeros(1)}})


def test_a_model_of_other_things_too_is_read_by_prefix(tmp_path):
    """Counters of a norm are 64-bit integers, which JAX would cut: only what is asked for is converted."""
    tensors = interop.torch.export_lstm(lj.init_stack(KEY, 4, 5, 1), "encoder.") | {"norm.seen": np.arange(3)}
    interop.safetensors.save(tmp_path / "file", tensors)
    with jax.enable_x64(False):
        layers = interop.torch.import_lstm(interop.safetensors.load_arrays(tmp_path / "file"), "encoder.")
        assert layers[0].input_kernel.shape == (4, 20)
        with pytest.raises(ValueError, match=r"norm\.seen: got int64, which JAX would cut to int32"):
            interop.safetensors.load(tmp_path / "file", tensors)


def test_host_arrays_that_are_not_contiguous_keep_their_order(tmp_path):
    kernel = np.arange(6.0, dtype=np.float32).reshape(2, 3).T
    interop.safetensors.save(tmp_path / "file", {"kernel": kernel})
    np.testing.assert_array_equal(interop.safetensors.load_arrays(tmp_path / "file")["kernel"], kernel)


def test_a_file_in_pytorchs_names(tmp_path):
    layers = lj.init_stack(KEY, 4, 5, 2)
    path = tmp_path / "model.safetensors"
    interop.safetensors.save(path, interop.torch.export_lstm(layers, prefix="lstm."))
    arrays = interop.safetensors.load_arrays(path)
    assert_trees_close(interop.torch.import_lstm(arrays, prefix="lstm."), layers, 0)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float64])
def test_other_dtypes(tmp_path, dtype):
    params = lj.init_params(KEY, 3, 2, dtype=dtype)
    interop.safetensors.save(tmp_path / "file", params)
    back = interop.safetensors.load(tmp_path / "file", params)
    assert back.bias.dtype == dtype
    assert_trees_close(back, params, 0)


def test_variables_of_nnx_are_saved_as_arrays(tmp_path):
    nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
    params = lj.init_params(KEY, 3, 2)
    interop.safetensors.save(tmp_path / "file", lj.LSTMParams(*map(nnx.Param, params)))
    assert_trees_close(interop.safetensors.load(tmp_path / "file", params), params, 0)


BLOCKED = {
    "onnx": ("lj.interop.onnx.export_lstm(lj.init_stack(jax.random.key(0), 2, 3, 1))", "interop"),
    "safetensors": ("lj.interop.safetensors.save('file', {})", "interop"),
    "safetensors.numpy": ("lj.interop.safetensors.load_arrays('file')", "interop"),
    "matplotlib": ("lj.diagnostics.plots", "diagnostics"),
    "flax": ("lj.flax_modules.linen", "flax"),
    "flax.nnx": ("lj.flax_modules.nnx", "flax"),
}


@pytest.mark.parametrize("name", BLOCKED)
def test_a_missing_extra_is_named(name, tmp_path):
    """In a process of its own, where the import of one package fails."""
    call, extra = BLOCKED[name]
    program = f"import sys\nsys.modules[{name!r}] = None\nimport jax, lstm_jax as lj\nprint('imported')\n{call}"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "imported\n", done.stderr
    assert done.returncode == 1
    error = done.stderr.strip().splitlines()[-1]
    package = name.split(".")[0]
    assert error == f"ImportError: {package} is not installed; install it with: pip install 'lstm_jax[{extra}]'"
    assert not list(tmp_path.iterdir())


def test_a_package_that_lacks_one_of_its_own_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import a_package_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'a_package_that_is_not_there'"):
        import_extra("half_installed", "training")


def test_an_interrupted_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "params"
    interop.safetensors.save(path, lj.init_params(KEY, 3, 2))
    before = path.read_bytes()
    with pytest.raises(Exception, match="object"):
        interop.safetensors.save(path, {"name": object()})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (lj.init_params(KEY, 3, 4), r"input_kernel: got shape \(3, 8\), want \(3, 16\)"),
        (lj.init_params(KEY, 3, 2, dtype=jnp.float16), "input_kernel: got float32, want float16"),
        ({"bias": jnp.zeros(8)}, "unexpected input_kernel, recurrent_kernel, want bias"),
        ({"layer": lj.init_params(KEY, 3, 2)}, "no layer.bias, layer.input_kernel"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, like, message):
    interop.safetensors.save(tmp_path / "file", lj.init_params(KEY, 3, 2))
    with pytest.raises(ValueError, match=message):
        interop.safetensors.load(tmp_path / "file", like)


RELOAD = """
import sys
import jax, numpy as np
from jax import export
assert "lstm_jax" not in sys.modules
program = export.deserialize(open(sys.argv[1], "rb").read())
data = dict(np.load(sys.argv[2]))
kernels, xs, lengths = [data[f"w{k}"] for k in range(6)], data["xs"], data["lengths"]
np.savez(sys.argv[3], *program.call(*kernels, xs, lengths))
"""


@pytest.mark.parametrize("remat", [None, "states", 8])
def test_an_exported_program_runs_in_another_process_for_any_batch_and_length(tmp_path, remat):
    """Batch and time are symbols; values, and the gradient of a loss, without this library on the other side."""
    layers = lj.init_stack(KEY, 3, 4, 2)

    def program(*arrays):
        *weights, xs, lengths = arrays

        def loss(weights, xs):
            layers = (lj.LSTMParams(*weights[:3]), lj.LSTMParams(*weights[3:]))
            finals, ys = lj.lstm_stack(layers, xs, lengths=lengths, remat=remat)
            return jnp.sum(ys**2), (finals, ys)

        # leaves, since the types of this library are not known on the other side
        return jax.tree.leaves(jax.value_and_grad(loss, (0, 1), has_aux=True)(weights, xs))

    t, b = export.symbolic_shape("t, b")
    weights = jax.tree.leaves(layers)
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in weights]
    shapes += [jax.ShapeDtypeStruct((t, b, 3), jnp.float32), jax.ShapeDtypeStruct((b,), jnp.int32)]
    (tmp_path / "program").write_bytes(export.export(jax.jit(program), platforms=["cpu", "cuda"])(*shapes).serialize())
    for time, batch in ((7, 2), (40, 5)):
        rng = np.random.default_rng(time)
        xs = rng.normal(size=(time, batch, 3)).astype(np.float32)
        lengths = rng.integers(0, time + 1, size=batch).astype(np.int32)
        named = {f"w{k}": np.asarray(leaf) for k, leaf in enumerate(weights)}
        np.savez(tmp_path / "in.npz", xs=xs, lengths=lengths, **named)
        files = [str(tmp_path / name) for name in ("program", "in.npz", "out.npz")]
        done = subprocess.run([sys.executable, "-c", RELOAD, *files], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        got = list(np.load(tmp_path / "out.npz").values())
        assert_trees_close(got, program(*weights, jnp.asarray(xs), jnp.asarray(lengths)), 1e-4)


def test_a_free_batch_with_known_time():
    params = lj.init_params(KEY, 3, 4)
    (b,) = export.symbolic_shape("b")
    run = export.export(jax.jit(lambda xs: lj.lstm(params, xs)))(jax.ShapeDtypeStruct((300, b, 3), jnp.float32))
    xs = jax.random.normal(KEY, (300, 5, 3), jnp.float32)
    assert_trees_close(run.call(xs), lj.lstm(params, xs), 1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_named_tuples_go_through_a_serialized_program(bidirectional):
    layers = lj.init_stack(KEY, 3, 4, 1, bidirectional=bidirectional)
    xs = jnp.ones((5, 2, 3), jnp.float32)
    exported = export.export(jax.jit(lj.lstm_stack))(layers, xs)
    (final,), ys = export.deserialize(exported.serialize()).call(layers, xs)
    assert type(final) is (lj.Bidirectional if bidirectional else lj.LSTMState)
    assert_trees_close(((final,), ys), lj.lstm_stack(layers, xs), 1e-6)
