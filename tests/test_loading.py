"""Batches that are iterated: lists, generators, loaders with a state, PyTorch's; how a resumed run finds its place."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lstm_jax import training
from lstm_jax.training import metrics

pytestmark = pytest.mark.usefixtures("standard_promotion")
X = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], np.float32)
NUM_BATCHES = 6
LIST = [{"x": X[8 * k : 8 * k + 8], "y": Y[8 * k : 8 * k + 8]} for k in range(NUM_BATCHES)]
BY_NUMBER = training.Shuffled({"x": X, "y": Y}, 8, shuffle=False)


@training.stateless
def loss_fn(params, batch, key):
    errors = (batch["x"] @ params - batch["y"]) ** 2
    return errors.mean(), {"loss": metrics.mean(errors)}


def fit(batches, steps, **options):
    return training.fit(
        loss_fn,
        jnp.zeros(3, jnp.float32),
        batches,
        optax.adam(0.1),
        steps=steps,
        key=jax.random.key(0),
        progress_bar=False,
        **options,
    )


def assert_same_bits(got, want):
    jax.tree.map(np.testing.assert_array_equal, (got.params, got.state.opt_state), (want.params, want.state.opt_state))


class StatefulLoader:
    """Batches in a new random order each epoch, with the protocol of torchdata's StatefulDataLoader."""

    def __init__(self):
        self.rng, self.order, self.position = np.random.default_rng(5), None, 0

    def __iter__(self):
        if self.order is None:
            self.order, self.position = self.rng.permutation(NUM_BATCHES).tolist(), 0
        while self.position < NUM_BATCHES:
            self.position += 1
            yield LIST[self.order[self.position - 1]]
        self.order = None

    def state_dict(self):
        return {"rng": self.rng.bit_generator.state, "order": self.order, "position": self.position}

    def load_state_dict(self, state):
        self.rng.bit_generator.state = state["rng"]
        self.order, self.position = state["order"], state["position"]


class GrainLike:
    """An iterable whose iterators have the protocol of grain's: get_state and set_state, here in bytes."""

    def __iter__(self):
        return GrainLikeIterator()


class GrainLikeIterator:
    def __init__(self):
        self.number = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.number == NUM_BATCHES:
            raise StopIteration
        self.number += 1
        return LIST[self.number - 1]

    def get_state(self):
        return str(self.number).encode()

    def set_state(self, state):
        self.number = int(state)


def test_a_list_of_batches_goes_round():
    assert_same_bits(fit(LIST, 2 * NUM_BATCHES + 3), fit(BY_NUMBER, 2 * NUM_BATCHES + 3))


def test_a_generator_is_read_as_it_comes_and_ends_training_when_it_runs_out():
    whole = fit(LIST, 5)
    assert_same_bits(fit((batch for batch in LIST), 5), whole)
    fitted = fit(iter(LIST[:5]), 100, log_every=2, validation=training.Validation(LIST, every=3))
    assert fitted.stop_reason == "batches"
    assert [row["step"] for row in fitted.history] == [2, 3, 4, 5]
    assert "valid loss" in fitted.history[-1]
    jax.tree.map(np.testing.assert_array_equal, fitted.state.params, whole.state.params)


@pytest.mark.parametrize("make", [lambda: GrainLikeIterator(), lambda: iter(LIST)], ids=["get_state", "generator"])
@pytest.mark.filterwarnings("ignore:batches. the first 6 are read again")
def test_a_run_whose_batches_ran_out_stays_where_it_is(make, tmp_path):
    saving = training.Saving(tmp_path)
    first = fit(make(), 100, saving=saving)
    resumed = fit(make(), 100, saving=saving._replace(resume=True))
    assert (resumed.stop_reason, len(resumed.history)) == ("batches", 1)
    assert_same_bits(resumed, first)


@pytest.mark.parametrize("make", [StatefulLoader, GrainLike], ids=["state_dict", "get_state"])
@pytest.mark.parametrize("stop", [5, 6, 9])
def test_a_loader_with_a_state_goes_on_where_it_was(make, stop, tmp_path):
    whole = fit(make(), 20)
    saving = training.Saving(tmp_path, every=4)
    fit(make(), stop, saving=saving)
    assert_same_bits(fit(make(), 20, saving=saving._replace(resume=True)), whole)


def test_a_loader_without_a_state_is_read_again_and_says_so(tmp_path):
    def generate():
        for _ in range(4):
            yield from LIST

    saving = training.Saving(tmp_path, every=4)
    fit(generate(), 7, saving=saving)
    with pytest.warns(UserWarning, match="batches: the first 7 are read again"):
        resumed = fit(generate(), 20, saving=saving._replace(resume=True))
    assert_same_bits(resumed, fit(generate(), 20))


def test_a_data_loader_of_pytorch_goes_in_as_it_is():
    torch = pytest.importorskip("torch")
    rows = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    loader = torch.utils.data.DataLoader(rows, batch_size=8)

    @training.stateless
    def loss_of_pairs(params, batch, key):
        return loss_fn(params, None, dict(zip("xy", batch, strict=True)), key)[0], {}

    fitted = training.fit(
        loss_of_pairs,
        jnp.zeros(3, jnp.float32),
        loader,
        optax.adam(0.1),
        steps=NUM_BATCHES + 2,
        key=jax.random.key(0),
        validation=training.Validation(loader, every=4),
        progress_bar=False,
    )
    jax.tree.map(np.testing.assert_array_equal, fitted.state.params, fit(LIST, NUM_BATCHES + 2).params)
    want = training.make_evaluate(loss_fn)(fitted.params, LIST)
    got = training.make_evaluate(loss_of_pairs)(fitted.params, loader)
    np.testing.assert_allclose(metrics.values(got)["loss"], metrics.values(want)["loss"], rtol=1e-6)


@pytest.mark.parametrize(
    ("batches", "options", "message"),
    [
        ([], {}, "batches: got none"),
        (iter([]), {}, "batches: got none"),
        (7, {}, "batches: got int, want batches"),
        (LIST, {"validation": training.Validation(iter(LIST), 2)}, "Validation.batches: got an iterator"),
    ],
)
def test_batches_that_cannot_serve_are_named(batches, options, message):
    with pytest.raises(ValueError, match=message):
        fit(batches, 4, **options)
