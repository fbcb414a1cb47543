"""Members of a population train as they would alone, with numbers, keys and data of their own; search ranks them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.training import metrics

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("standard_promotion")]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 6, 2)).astype(np.float32)
Y = (X[:, :, 0].sum(1) > 0).astype(np.int32)
DATA = {"x": X[:64], "y": Y[:64]}
HELD = training.Shuffled({"x": X[64:], "y": Y[64:]}, 32, shuffle=False)
HYPERS = training.grid(rate=[1e-3, 3e-2], dropout=[0.0, 0.4])


def init(key):
    return {"lstm": lj.init_params(key, 2, 6), "dense": jax.random.normal(key, (6, 2), jnp.float32)}


def make_loss_and_optimizer(hyper):
    @training.stateless
    def loss(params, batch, key):
        _, ys = lj.lstm(params["lstm"], jnp.swapaxes(batch["x"], 0, 1))
        ys = ys if key is None else lj.regularizers.locked_dropout(key, ys, hyper["dropout"])
        nats = optax.softmax_cross_entropy_with_integer_labels(ys[-1] @ params["dense"], batch["y"])
        return nats.mean(), {"loss": metrics.mean(nats)}

    return loss, optax.adam(hyper["rate"])


def alone(member, key, batches, steps):
    """The same member by itself, through ``fit``."""
    hyper = {name: jnp.float32(column[member]) for name, column in HYPERS.items()}
    init_key, own_key = jax.random.split(jax.random.fold_in(key, member))
    loss, optimizer = make_loss_and_optimizer(hyper)
    return training.fit(loss, init(init_key), batches, optimizer, steps=steps, key=own_key, progress_bar=False).params


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("backend", ["cpu", "one that maps"])
def test_a_member_is_what_it_would_be_alone(shared, backend, monkeypatch):
    """Spread over the two devices of the tests; one after another as on CPU, and by vmap as elsewhere."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    key, own_batches = jax.random.key(3), [training.Shuffled(DATA, 16, seed=member) for member in range(4)]
    population = training.Population(make_loss_and_optimizer, init, shared=shared)
    batches = own_batches[0] if shared else training.StackedBatches(own_batches)
    state = population.init_state(key, HYPERS)
    state = population.run(state, batches, 0, 5)
    state = population.run(state, batches, 5, 9)
    for member in range(4):
        want = alone(member, key, own_batches[0 if shared else member], 9)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), training.member_params(state, member), want
        )


@pytest.mark.parametrize("shared", [True, False])
def test_fit_trains_a_population_with_validation_checkpoints_and_resumption(shared, tmp_path):
    key = jax.random.key(3)
    population = training.Population(make_loss_and_optimizer, init, shared=shared)
    own_batches = [training.Shuffled(DATA, 16, seed=member) for member in range(4)]
    batches = own_batches[0] if shared else training.StackedBatches(own_batches)

    def fit(steps, **options):
        step, validation = population.make_step(HYPERS), training.Validation(HELD, 4)
        return training.fit(
            step, None, batches, steps=steps, key=key, validation=validation, progress_bar=False, **options
        )

    whole = fit(9)
    want = population.run(population.init_state(key, HYPERS), batches, 0, 9)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), whole.state.params, want.train_states.params)
    last = whole.history[-1]
    assert {"loss", "loss 0", "loss 3", "valid loss", "valid loss 3"} <= set(last)
    losses = [row["loss"] for row in population.evaluate(want, HELD)]
    np.testing.assert_allclose([last[f"valid loss {member}"] for member in range(4)], losses, atol=1e-5)
    np.testing.assert_allclose(last["valid loss"], np.mean(losses), atol=1e-5)
    saving = training.Saving(tmp_path, every=3)
    fit(5, saving=saving)
    resumed = fit(9, saving=saving._replace(resume=True))
    jax.tree.map(np.testing.assert_array_equal, resumed.state.params, whole.state.params)
    assert resumed.history[-1] == last


def test_fit_stops_only_where_every_member_failed():
    population = training.Population(make_loss_and_optimizer, init)

    def fit(rates):
        step = population.make_step({"rate": np.array(rates), "dropout": np.zeros(2)})
        batches = training.Shuffled(DATA, 16)
        return training.fit(step, None, batches, steps=4, key=jax.random.key(0), progress_bar=False)

    assert np.asarray(fit([np.inf, 1e-2]).state.failure.step).tolist() == [0, -1]
    with pytest.raises(FloatingPointError, match="step 0: a number is not finite, first in params"):
        fit([np.inf, np.inf])


def search(steps, hyperparameters=HYPERS, **options):
    population = training.Population(make_loss_and_optimizer, init)
    batches = training.Shuffled(DATA, 16)
    return training.search(
        population, jax.random.key(3), hyperparameters, batches, HELD, steps=steps, progress_bar=False, **options
    )


def test_search_orders_members_and_halving_drops_the_worse():
    def run_search(halvings):
        return search(40, halvings=halvings)

    whole, halved = run_search(()), run_search((10, 20))
    losses = [row["loss"] for row in whole.table]
    assert losses == sorted(losses)
    assert whole.best == whole.table[0]
    assert np.isclose(whole.best["rate"], 3e-2)
    assert [row["steps"] for row in halved.table] == [40, 20, 10, 10]
    assert sorted(row["member"] for row in halved.table) == [0, 1, 2, 3]
    loss, _ = make_loss_and_optimizer({"rate": 0.0, "dropout": 0.0})
    np.testing.assert_allclose(
        metrics.values(training.make_evaluate(loss)(whole.params, HELD))["loss"], whole.best["loss"], rtol=1e-5
    )


def test_a_member_that_fails_comes_last_and_spoils_no_other():
    table = search(4, {"rate": np.array([np.inf, 1e-2]), "dropout": np.zeros(2)}).table
    assert [row["member"] for row in table] == [1, 0]
    assert np.isnan(table[1]["loss"])
    assert np.isfinite(table[0]["loss"])


def test_search_by_the_largest_and_wrong_halvings(tmp_path):
    def run_search(**options):
        return search(10, **options)

    losses, reversed_losses = ([row["loss"] for row in run_search(metric=name).table] for name in ("loss", "-loss"))
    assert reversed_losses == losses[::-1]
    training.plot_search(run_search().table, ("rate", "dropout"), tmp_path / "search.png", metric="-loss")
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"halvings: got \(10,\), want steps after the first and before the last, 10"):
        run_search(halvings=(10,))


def test_random_draws_lie_in_their_ranges():
    drawn = training.sample_hyperparameters(0, 500, rate=(1e-4, 1e-1, "log"), dropout=(0.2, 0.5))
    assert 1e-4 <= drawn["rate"].min() < 2e-4
    assert abs(np.median(np.log10(drawn["rate"])) + 2.5) < 0.2
    assert 0.2 <= drawn["dropout"].min() <= drawn["dropout"].max() <= 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: training.sample_hyperparameters(0, 3, rate=(0.0, 1.0, "log")), "rate: got"),
        (lambda: search(4, {}), "hyperparameters: got none"),
        (
            lambda: search(4, {"rate": [1, 2], "dropout": [0]}),
            "hyperparameters: got {'rate': 2, 'dropout': 1}",
        ),
    ],
)
def test_wrong_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_example_searches_and_compares(tmp_path, capsys, monkeypatch):
    from examples import search_strokes

    picture = tmp_path / "search.png"
    with jax.enable_x64(False):
        search_strokes.main(["--optuna", "1", "--set", "members=4", "steps=50", f"picture={picture}"])
    printed = capsys.readouterr().out
    assert "the same winner" in printed
    assert "best of 1 trials: {'hidden':" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "message"), [("1,2,3\n", "got 3 columns"), ("a,b\n", "want lines of"), (None, "is not a file")]
)
def test_strokes_that_cannot_be_read_are_explained(text, message, tmp_path):
    from examples import search_strokes

    if text is not None:
        (tmp_path / "pendigits.tra").write_text(text)
    with pytest.raises(SystemExit, match=f"--data: .*{message}"):
        search_strokes.main(["--data", str(tmp_path)])
