"""Decoding against brute force: every sequence of a small vocabulary, scored by NumPy."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax import decoding

V, LENGTH, END = 4, 4, 1


def draw(seed, size=V):
    """An LSTM that reads and predicts ``size`` tokens, with scores far from uniform."""
    keys = jax.random.split(jax.random.key(seed), 3)
    return {
        "embedding": jax.random.normal(keys[0], (size, 3)),
        "lstm": lj.init_params(keys[1], 3, 5, dtype=jnp.float64),
        "head": 4 * jax.random.normal(keys[2], (5, size)),
    }


def step(params, state, token):
    state, y = lj.lstm_cell(params["lstm"], state, params["embedding"][token])
    return state, y @ params["head"]


def log_probability(params, state, first, tokens):
    """By one call of ``lstm`` over the whole sequence, in NumPy behind it; ``[T]``, token by token."""
    read = np.concatenate([[first], tokens])[:-1]
    _, ys = lj.lstm(params["lstm"], params["embedding"][read], state)
    logits = np.asarray(ys @ params["head"], np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return logp[np.arange(len(tokens)), tokens]


def every_sequence(length):
    """All that end within ``length`` tokens, ended by END, and all of ``length`` tokens that do not."""
    inner = [token for token in range(V) if token != END]
    for n in range(length):
        for tokens in itertools.product(inner, repeat=n):
            yield (*tokens, END)
    yield from itertools.product(inner, repeat=length)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_wide_beam_finds_what_brute_force_finds(seed, alpha):
    params = draw(seed)
    state = lj.zero_state(params["lstm"])
    ranked = []
    for tokens in every_sequence(LENGTH):
        score = log_probability(params, state, 2, np.array(tokens)).sum() / ((5 + len(tokens)) / 6) ** alpha
        ranked.append((tokens[-1] != END, -score, tokens))
    ranked.sort()
    beams = 81
    found = decoding.beam_search(
        step, params, state, 2, beam_size=beams, max_length=LENGTH, eos_token=END, length_penalty=alpha
    )
    ended = [one for one in ranked if not one[0]]
    for place, (_, negative, tokens) in enumerate(ended):
        content = np.asarray(found.tokens[place])
        assert found.length[place] == len(tokens) - 1
        np.testing.assert_array_equal(content, (*tokens, *[END] * (LENGTH - len(tokens))))
        np.testing.assert_allclose(found.score[place], -negative, rtol=1e-5)
    unended = [one for one in ranked if one[0]][: beams - len(ended)]
    for place, (_, negative, tokens) in enumerate(unended, len(ended)):
        np.testing.assert_array_equal(found.tokens[place], tokens)
        np.testing.assert_allclose(found.score[place], -negative, rtol=1e-5)


def plain_beam_search(params, state, first, beams, length, alpha):
    """In NumPy, without stopping early: (score, tokens) of what ended, best first."""
    under_way, ended = [(0.0, ())], []
    for _ in range(length):
        grown = []
        for score, tokens in under_way:
            _, ys = lj.lstm(params["lstm"], params["embedding"][np.array([first, *tokens])], state)
            logp = np.asarray(jax.nn.log_softmax(ys[-1] @ params["head"]))
            for token in range(len(logp)):
                if token == END:
                    ended.append(((score + logp[END]) / ((6 + len(tokens)) / 6) ** alpha, (*tokens, END)))
                else:
                    grown.append((score + logp[token], (*tokens, token)))
        under_way = sorted(grown, reverse=True)[:beams]
        ended = sorted(ended, reverse=True)[:beams]
    return ended


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_narrow_beam_finds_what_a_plain_search_finds(seed, alpha):
    """Stopping early changes nothing of the best, and pruning keeps the best."""
    params = draw(seed, size=6)
    state = lj.zero_state(params["lstm"])
    want = plain_beam_search(params, state, 0, beams=3, length=8, alpha=alpha)
    found = decoding.beam_search(step, params, state, 0, beam_size=3, max_length=8, eos_token=END, length_penalty=alpha)
    for place, (score, tokens) in enumerate(want):
        np.testing.assert_allclose(found.score[place], score, rtol=1e-5)
        assert tuple(np.asarray(found.tokens[place])[: len(tokens)]) == tokens
        assert found.length[place] == len(tokens) - 1


def test_the_search_stops_when_nothing_better_can_come():
    """A step that would end in NaN if it were taken once more."""
    logits = jnp.array([0.0, 9.0, -9.0])

    def step(params, number, token):
        return number + 1, jnp.where(number < 3, logits, jnp.nan)

    found = decoding.beam_search(
        step, None, jnp.array(0), 0, beam_size=1, max_length=50, eos_token=1, length_penalty=0.0
    )
    assert np.isfinite(found.score[0])
    assert found.length[0] == 0


def test_one_beam_without_end_is_greedy():
    """A step that never ends, so that the one beam follows the most probable token."""

    def endless(params, state, token):
        state, logits = step(params, state, token)
        return state, logits.at[END].set(-jnp.inf)

    params = draw(3)
    state = lj.zero_state(params["lstm"])
    one = decoding.beam_search(endless, params, state, 0, beam_size=1, max_length=9, eos_token=END)
    same = decoding.greedy(endless, params, state, 0, max_length=9)
    np.testing.assert_array_equal(one.tokens[0], same.tokens)
    np.testing.assert_allclose(one.score[0] * (14 / 6) ** 0.6, same.score, rtol=1e-6)


def test_greedy_takes_the_largest_and_stops_at_the_end():
    params = draw(1)
    state = lj.zero_state(params["lstm"])
    free = decoding.greedy(step, params, state, 0, max_length=12)
    read = [0]
    for token in np.asarray(free.tokens):
        _, ys = lj.lstm(params["lstm"], params["embedding"][np.array(read)], state)
        assert token == int(np.argmax(ys[-1] @ params["head"]))
        read.append(int(token))
    assert free.length == 12
    np.testing.assert_allclose(free.score, log_probability(params, state, 0, np.asarray(free.tokens)).sum(), rtol=1e-5)
    end = int(free.tokens[5])
    place = list(np.asarray(free.tokens)).index(end)
    cut = decoding.greedy(step, params, state, 0, max_length=12, eos_token=end)
    assert cut.length == place
    np.testing.assert_array_equal(cut.tokens[:place], free.tokens[:place])
    assert (cut.tokens[place:] == end).all()
    np.testing.assert_allclose(
        cut.score, log_probability(params, state, 0, np.asarray(cut.tokens[: place + 1])).sum(), rtol=1e-5
    )


LOGITS = jnp.log(jnp.array([0.05, 0.4, 0.25, 0.2, 0.1]))


def kept(logits):
    return set(np.flatnonzero(np.isfinite(logits)))


def test_top_k_keeps_the_largest():
    for k, want in ((1, {1}), (2, {1, 2}), (4, {1, 2, 3, 4}), (9, {0, 1, 2, 3, 4})):
        assert kept(decoding.keep_top_k(LOGITS, k)) == want
    np.testing.assert_array_equal(decoding.keep_top_k(LOGITS, 9), LOGITS)
    with pytest.raises(ValueError, match="top_k: got 0, want at least 1"):
        decoding.keep_top_k(LOGITS, 0)


def test_nucleus_keeps_the_fewest_that_reach_p():
    for p, want in ((0.0, {1}), (0.39, {1}), (0.41, {1, 2}), (0.64, {1, 2}), (0.84, {1, 2, 3}), (1.0, set(range(5)))):
        assert kept(decoding.keep_top_p(LOGITS, p)) == want


def remembers(params, state, token):
    """Scores that depend on no token: the distribution is known."""
    return state, LOGITS


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({}, [0.05, 0.4, 0.25, 0.2, 0.1]),
        ({"temperature": 0.5}, np.array([0.05, 0.4, 0.25, 0.2, 0.1]) ** 2),
        ({"top_k": 2}, [0, 0.4, 0.25, 0, 0]),
        ({"top_p": 0.8}, [0, 0.4, 0.25, 0.2, 0]),
        ({"temperature": 2.0, "top_k": 4, "top_p": 0.7}, np.sqrt([0, 0.4, 0.25, 0.2, 0])),
    ],
)
def test_sampling_draws_from_what_is_left(options, want):
    count = 40_000
    drawn = decoding.sample(jax.random.key(5), remembers, None, (), 0, max_length=count, **options)
    want = np.asarray(want) / np.sum(want)
    shares = np.bincount(drawn.tokens, minlength=5) / count
    assert (shares[want == 0] == 0).all()
    np.testing.assert_allclose(shares, want, atol=5 * np.sqrt(0.25 / count))  # five standard deviations
    np.testing.assert_allclose(drawn.score, np.log(want[np.asarray(drawn.tokens)]).sum(), rtol=1e-5)


def test_a_batch_is_a_map_over_sequences():
    params = draw(4)
    states = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(6), (3, *leaf.shape)), lj.zero_state(params["lstm"])
    )
    first = jnp.array([0, 2, 3])
    search = partial(decoding.beam_search, step, beam_size=3, max_length=6, eos_token=END)
    together = jax.vmap(search, in_axes=(None, 0, 0))(params, states, first)
    for row in range(3):
        alone = search(params, jax.tree.map(lambda leaf, row=row: leaf[row], states), first[row])
        np.testing.assert_array_equal(together.tokens[row], alone.tokens)
        np.testing.assert_allclose(together.score[row], alone.score, rtol=1e-6)


def test_beams_share_what_does_not_change():
    """The memory of a sequence is not copied for each beam."""
    memory = jnp.ones((1000, 32))

    def attends(params, state, token):
        return state, jnp.ones(V) * params.sum()

    jaxpr = jax.make_jaxpr(
        lambda memory: decoding.beam_search(attends, memory, (), 0, beam_size=7, max_length=5, eos_token=END)
    )(memory)
    assert "7,1000,32" not in str(jaxpr)
    assert "1000,32" in str(jaxpr)


def test_the_same_step_compiles_once():
    params = draw(2)
    state = lj.zero_state(params["lstm"])
    before = decoding.greedy._cache_size()
    for first in range(3):
        decoding.greedy(step, params, state, first, max_length=7, eos_token=END)
    assert decoding.greedy._cache_size() == before + 1


@pytest.mark.parametrize("wrong", [{"beams": 0, "length": 3}, {"beams": 2, "length": 0}])
def test_wrong_sizes_are_named(wrong):
    with pytest.raises(ValueError, match="beams, length: got"):
        decoding.beam_search(step, draw(0), lj.zero_state(draw(0)["lstm"]), 0, eos_token=END, **wrong)


def test_an_end_that_is_no_token_is_refused():
    params = draw(0)
    state = lj.zero_state(params["lstm"])
    for call in (
        lambda: decoding.beam_search(step, params, state, 0, beam_size=2, max_length=3, eos_token=V),
        lambda: decoding.greedy(step, params, state, 0, max_length=3, eos_token=V),
        lambda: decoding.sample(jax.random.key(0), step, params, state, 0, max_length=3, eos_token=-1),
    ):
        with pytest.raises(ValueError, match=r"end: got .*, want a token from 0 to 3"):
            call()
