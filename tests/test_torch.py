"""``torch.nn.LSTM`` and ``torch.nn.GRU``: the same numbers with their weights, gradients included, and weights back."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax.cells import GRU
from lstm_jax.interop import torch as interop

torch = pytest.importorskip("torch", reason="torch is not installed; pip install torch to compare with it")

T, B = 12, 3
LENGTHS = [12, 5, 1]
DOUBLE, SINGLE = torch.float64, torch.float32
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
KINDS = [
    {"num_layers": layers, "bidirectional": bidirectional, "proj_size": width, "bias": bias}
    for layers, bidirectional, width, bias in itertools.product((1, 3), (False, True), (0, 2), (True, False))
]


def name_of(kind):
    return "-".join(f"{key}={value}" for key, value in kind.items())


def inputs(seed, module, dtype):
    """x, h0, c0 and the weights of a loss, as tensors; sizes vary with the seed."""
    generator = torch.Generator().manual_seed(seed)
    width = getattr(module, "proj_size", 0) or module.hidden_size
    stacked, directions = module.num_layers * (1 + module.bidirectional), 1 + module.bidirectional
    shapes = [
        (T, B, module.input_size),
        (stacked, B, width),
        (stacked, B, module.hidden_size),
        (T, B, directions * width),
    ]
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def make(kind, seed, gru=False, dtype=DOUBLE):
    torch.manual_seed(seed)
    sizes = ((4, 6), (1, 3), (7, 5))[seed]
    options = {key: value for key, value in kind.items() if not (gru and key == "proj_size")}
    return (torch.nn.GRU if gru else torch.nn.LSTM)(*sizes, **options).to(dtype)


def run_torch(module, x, state, packed):
    sequence = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(LENGTHS)) if packed else x
    ys, final = module(sequence, state)
    return (torch.nn.utils.rnn.pad_packed_sequence(ys, total_length=T)[0] if packed else ys), final


def assert_close(got, want, dtype):
    """Double: rounding alone. Single: 1e-6 of the largest entry, or of 1."""
    want = want.detach().numpy()
    limit = 1e-12 if dtype is DOUBLE else 1e-6
    np.testing.assert_allclose(got, want, rtol=0, atol=limit * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize(("seed", "dtype"), [(0, SINGLE), (1, SINGLE), (2, DOUBLE)], ids=["0", "1", "2-double"])
@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_lstm(kind, seed, dtype):
    """Outputs, final states, and gradients with respect to weights, inputs and states; ragged for seed 1."""
    module = make(kind, seed, dtype=dtype)
    packed = seed == 1
    x, h0, c0, weight = inputs(seed, module, dtype)
    for tensor in (x, h0, c0):
        tensor.requires_grad_()
    ys, (h_n, c_n) = run_torch(module, x, (h0, c0), packed)
    ((ys * weight).sum() + h_n.sum() + c_n.sin().sum()).backward()

    layers = interop.import_lstm(module.state_dict())
    bidirectional = kind["bidirectional"]
    lengths = jnp.array(LENGTHS) if packed else None

    def loss(layers, xs, states):
        finals, ys = lj.lstm_stack(layers, xs, states, lengths=lengths)
        flat = [direction for state in finals for direction in (state if bidirectional else (state,))]
        extra = sum(direction.h.sum() + jnp.sin(direction.c).sum() for direction in flat)
        return jnp.sum(ys * weight.numpy()) + extra, (finals, ys)

    xs = jnp.asarray(x.detach().numpy())
    states = interop.import_state(h0.detach(), c0.detach(), bidirectional=bidirectional)
    gradient, (finals, outputs) = jax.grad(loss, (0, 1, 2), has_aux=True)(layers, xs, states)
    assert_close(outputs, ys, dtype)
    for got, want in zip(interop.export_state(finals), (h_n, c_n), strict=True):
        assert_close(got, want, dtype)
    named = interop.export_lstm(gradient[0])
    for name, parameter in module.named_parameters():
        # both biases have the gradient of their sum
        assert_close(named[name.replace("bias_hh", "bias_ih")], parameter.grad, dtype)
    assert_close(gradient[1], x.grad, dtype)
    for got, want in zip(interop.export_state(gradient[2]), (h0.grad, c0.grad), strict=True):
        assert_close(got, want, dtype)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind["proj_size"]], ids=name_of)
def test_gru(kind):
    module = make(kind, 0, gru=True)
    x, h0, _, weight = inputs(0, module, DOUBLE)
    for tensor in (x, h0):
        tensor.requires_grad_()
    ys, h_n = run_torch(module, x, h0, packed=True)
    ((ys * weight).sum() + h_n.sin().sum()).backward()

    layers = interop.import_gru(module.state_dict())
    bidirectional = kind["bidirectional"]
    rows = list(jnp.asarray(h0.detach().numpy()))
    states = tuple(map(lj.Bidirectional, rows[::2], rows[1::2])) if bidirectional else tuple(rows)

    def loss(layers, xs, states):
        finals, ys = lj.unroll_stack(GRU, layers, xs, states, lengths=jnp.array(LENGTHS))
        final = jnp.stack(jax.tree.leaves(finals))
        return jnp.sum(ys * weight.numpy()) + jnp.sin(final).sum(), (final, ys)

    xs = jnp.asarray(x.detach().numpy())
    gradient, (final, outputs) = jax.grad(loss, (0, 1, 2), has_aux=True)(layers, xs, states)
    assert_close(outputs, ys, DOUBLE)
    assert_close(final, h_n, DOUBLE)
    named = interop.export_gru(gradient[0])
    size = module.hidden_size
    for name, parameter in module.named_parameters():
        got = named[name]
        if name.startswith("bias_hh"):  # b_hr and b_hz are merged into the other bias, whose gradient they share
            got = np.concatenate([named[name.replace("hh", "ih")][: 2 * size], got[2 * size :]])
        assert_close(got, parameter.grad, DOUBLE)
    assert_close(gradient[1], x.grad, DOUBLE)
    assert_close(jnp.stack(jax.tree.leaves(gradient[2])), h0.grad, DOUBLE)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_a_round_trip_gives_the_same_bits(kind):
    """Kernels as they were; the first bias the sum, the second 0; and ours come back from there bit by bit."""
    module = make(kind, 0, dtype=SINGLE)
    before = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    layers = interop.import_lstm(module.state_dict())
    back = interop.export_lstm(layers, bias=kind["bias"])
    assert set(back) == set(before)
    for name, array in back.items():
        assert array.dtype == np.float32
        if name.startswith("weight"):
            np.testing.assert_array_equal(array, before[name])
        elif name.startswith("bias_ih"):
            np.testing.assert_array_equal(array, before[name] + before[name.replace("ih", "hh")])
        else:
            assert not array.any()
    module.load_state_dict({name: torch.tensor(array) for name, array in back.items()})
    reimported = interop.import_lstm(module.state_dict())
    assert jax.tree.structure(reimported) == jax.tree.structure(layers)
    for array, original in zip(jax.tree.leaves(reimported), jax.tree.leaves(layers), strict=True):
        np.testing.assert_array_equal(array, original)


def test_half_precision_weights_keep_their_bits():
    module = make(KINDS[0], 0, dtype=torch.bfloat16)
    (params,) = interop.import_lstm(module.state_dict())
    assert params.input_kernel.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        np.asarray(params.input_kernel, np.float32).T, module.weight_ih_l0.detach().float().numpy()
    )


def test_half_precision_states_go_there_and_back():
    """The memory is float32 here and half there; the states can be made inside a traced function."""
    h, c = torch.randn(2, 1, 3, 5).half()
    (state,) = interop.import_state(h, c)
    assert (state.h.dtype, state.c.dtype) == (jnp.float16, jnp.float32)
    back = interop.export_state((state,))
    np.testing.assert_array_equal(back, np.stack([h.numpy(), c.numpy()]))
    traced = jax.jit(lambda h, c: interop.export_state(interop.import_state(h, c)))(*back)
    np.testing.assert_array_equal(traced, back)


class Tagger(torch.nn.Module):
    """What a published checkpoint looks like: an LSTM among other modules."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(20, 4)
        self.encoder = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(4, 6, 2, bidirectional=True)})
        self.head = torch.nn.Linear(12, 3)


def test_a_checkpoint_with_other_modules_loads_by_prefix():
    torch.manual_seed(0)
    tagger = Tagger()
    layers = interop.import_lstm(tagger.state_dict(), prefix="encoder.lstm.")
    x = torch.randn(T, B, 4)
    want, _ = tagger.encoder["lstm"](x)
    _, ys = lj.lstm_stack(layers, jnp.asarray(x.numpy()))
    assert_close(ys, want, SINGLE)
    back = interop.export_lstm(layers, prefix="encoder.lstm.")
    missing, unexpected = tagger.load_state_dict({k: torch.tensor(v) for k, v in back.items()}, strict=False)
    assert not unexpected
    assert not [name for name in missing if name.startswith("encoder")]


def faulty(change):
    tensors = {name: tensor.numpy() for name, tensor in make(KINDS[8], 0, dtype=SINGLE).state_dict().items()}
    change(tensors)
    return tensors


FAULTS = {
    "missing": (
        lambda: interop.import_lstm(faulty(lambda tensors: tensors.pop("weight_hh_l1"))),
        "got no weight_hh_l1, want",
    ),
    "missing layer": (
        lambda: interop.import_lstm(faulty(lambda t: [t.pop(name) for name in list(t) if name.endswith("_l1")])),
        "no bias_hh_l1, bias_ih_l1, weight_hh_l1, weight_ih_l1",
    ),
    "unexpected": (
        lambda: interop.import_lstm(faulty(lambda tensors: tensors.update({"weight_xx_l0": np.zeros(1)}))),
        "unexpected 'weight_xx_l0' under the prefix ''",
    ),
    "shape": (
        lambda: interop.import_lstm(faulty(lambda tensors: tensors.update({"weight_hh_l2": np.zeros((24, 5))}))),
        r"state_dict\['weight_hh_l2'\]: got shape \(24, 5\), want \(24, 6\)",
    ),
    "a GRU's": (
        lambda: interop.import_lstm(make(KINDS[0], 0, gru=True).state_dict()),
        r"weight_ih_l0'\]: got shape \(18, 4\), want \(24, 4\)",
    ),
    "no prefix": (lambda: interop.import_lstm(Tagger().state_dict()), "prefixes with an LSTM or GRU: 'encoder.lstm.'"),
    "wrong prefix": (
        lambda: interop.import_lstm(Tagger().state_dict(), "decoder."),
        "no name that begins with prefix 'decoder.'; prefixes with an LSTM or GRU: 'encoder.lstm.'",
    ),
    "no LSTM": (lambda: interop.import_lstm({"head.weight": np.zeros(3)}), "it has no weight_ih_l0 at all"),
    "a module": (lambda: interop.import_lstm(torch.nn.LSTM(2, 3)), "state_dict: got LSTM, want a mapping of names"),
    "states": (lambda: interop.import_state(np.zeros((3, 2, 4)), np.zeros((3, 1, 4))), r"c: got shape \(3, 1, 4\)"),
    "odd states": (
        lambda: interop.import_state(np.zeros((3, 2, 4)), np.zeros((3, 2, 4)), bidirectional=True),
        "h: got 3 states, want two a layer",
    ),
    "one layer": (
        lambda: interop.export_lstm(lj.init_params(jax.random.key(0), 2, 3)),
        r"layers: got LSTMParams, want a tuple of each layer's .*; \(params,\) for one",
    ),
    "bias": (
        lambda: interop.export_lstm((lj.init_params(jax.random.key(0), 2, 3),), bias=False),
        "want 0: a module with bias=False has none",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_converted_is_named(name):
    call, message = FAULTS[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_training_moves_here_and_back(data_folder):
    """A forecaster of monthly passengers, trained there, here and there again: the same predictions at each move."""
    rows = (data_folder / "airline_passengers").glob("*.csv")
    series = np.loadtxt(next(iter(rows)), delimiter=",", skiprows=1, usecols=1, dtype=np.float32)
    series = np.log(series) - np.log(series).mean()
    x, target = torch.tensor(series[:-1, None, None]), torch.tensor(series[1:, None])
    torch.manual_seed(0)
    module, head = torch.nn.LSTM(1, 8, 2), torch.nn.Linear(8, 1)

    def predict():
        return head(module(x)[0])[..., 0]

    def train():
        optimizer = torch.optim.SGD([*module.parameters(), *head.parameters()], lr=0.05)
        for _ in range(20):
            optimizer.zero_grad()
            loss = ((predict() - target) ** 2).mean()
            loss.backward()
            optimizer.step()
        return loss.item()

    first = train()
    layers = interop.import_lstm(module.state_dict())
    readout = jnp.asarray(head.weight.detach().numpy()[0]), jnp.asarray(head.bias.item(), jnp.float32)
    xs = jnp.asarray(x.numpy())

    def ours(weights):
        layers, (kernel, bias) = weights
        return lj.lstm_stack(layers, xs)[1] @ kernel + bias

    np.testing.assert_allclose(ours((layers, readout)), predict().detach().numpy(), rtol=0, atol=1e-6)

    weights = (layers, readout)
    step = jax.jit(jax.value_and_grad(lambda weights: jnp.mean((ours(weights) - target.numpy()) ** 2)))
    for _ in range(20):
        second, gradient = step(weights)
        weights = jax.tree.map(lambda leaf, slope: leaf - jnp.float32(0.05) * slope, weights, gradient)
    assert second < first

    layers, (kernel, bias) = weights
    module.load_state_dict({name: torch.tensor(array) for name, array in interop.export_lstm(layers).items()})
    with torch.no_grad():
        head.weight.copy_(torch.tensor(np.array(kernel)[None]))
        head.bias.copy_(torch.tensor(np.array(bias)[None]))
    np.testing.assert_allclose(predict().detach().numpy(), ours(weights), rtol=0, atol=1e-6)
    assert train() < second
