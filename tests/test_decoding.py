"""Decoding against brute force: every sequence of a small vocabulary, scored by NumPy."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax import decoding

VOCAB_SIZE, MAX_LENGTH, EOS = 4, 4, 1


def init_model(seed, vocab_size=VOCAB_SIZE):
    """An LSTM that reads and predicts ``vocab_size`` tokens, with logits far from uniform."""
    keys = jax.random.split(jax.random.key(seed), 3)
    return {
        "embedding": jax.random.normal(keys[0], (vocab_size, 3)),
        "lstm": lj.init_params(keys[1], 3, 5, dtype=jnp.float64),
        "head": 4 * jax.random.normal(keys[2], (5, vocab_size)),
    }


def step(params, state, token):
    state, y = lj.lstm_cell(params["lstm"], state, params["embedding"][token])
    return state, y @ params["head"]


def log_probability(params, state, start_token, tokens):
    """Of each token ``[T]``, by one call of ``lstm`` over the whole sequence and NumPy after it."""
    read = np.concatenate([[start_token], tokens])[:-1]
    _, ys = lj.lstm(params["lstm"], params["embedding"][read], state)
    logits = np.asarray(ys @ params["head"], np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return logp[np.arange(len(tokens)), tokens]


def every_sequence(length):
    """All sequences that end by EOS within ``length`` tokens, and all of ``length`` tokens without EOS."""
    other_tokens = [token for token in range(VOCAB_SIZE) if token != EOS]
    for n in range(length):
        for tokens in itertools.product(other_tokens, repeat=n):
            yield (*tokens, EOS)
    yield from itertools.product(other_tokens, repeat=length)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_wide_beam_equals_brute_force(seed, length_penalty):
    params = init_model(seed)
    state = lj.zero_state(params["lstm"])
    ranked = []
    for tokens in every_sequence(MAX_LENGTH):
        score = log_probability(params, state, 2, np.array(tokens)).sum() / ((5 + len(tokens)) / 6) ** length_penalty
        ranked.append((tokens[-1] != EOS, -score, tokens))
    ranked.sort()
    beam_size = 81
    result = decoding.beam_search(
        step, params, state, 2, beam_size=beam_size, max_length=MAX_LENGTH, eos_token=EOS, length_penalty=length_penalty
    )
    finished = [entry for entry in ranked if not entry[0]]
    for place, (_, negative_score, tokens) in enumerate(finished):
        assert result.length[place] == len(tokens) - 1
        np.testing.assert_array_equal(result.tokens[place], (*tokens, *[EOS] * (MAX_LENGTH - len(tokens))))
        np.testing.assert_allclose(result.score[place], -negative_score, rtol=1e-5)
    unfinished = [entry for entry in ranked if entry[0]][: beam_size - len(finished)]
    for place, (_, negative_score, tokens) in enumerate(unfinished, len(finished)):
        np.testing.assert_array_equal(result.tokens[place], tokens)
        np.testing.assert_allclose(result.score[place], -negative_score, rtol=1e-5)


def plain_beam_search(params, state, start_token, beam_size, max_length, length_penalty):
    """A beam search in Python that does not stop early: (score, tokens) of the finished sequences, the best first."""
    live, finished = [(0.0, ())], []
    for _ in range(max_length):
        extended = []
        for score, tokens in live:
            _, ys = lj.lstm(params["lstm"], params["embedding"][np.array([start_token, *tokens])], state)
            logp = np.asarray(jax.nn.log_softmax(ys[-1] @ params["head"]))
            for token in range(len(logp)):
                if token == EOS:
                    finished.append(((score + logp[EOS]) / ((6 + len(tokens)) / 6) ** length_penalty, (*tokens, EOS)))
                else:
                    extended.append((score + logp[token], (*tokens, token)))
        live = sorted(extended, reverse=True)[:beam_size]
        finished = sorted(finished, reverse=True)[:beam_size]
    return finished


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_narrow_beam_equals_a_plain_beam_search(seed, length_penalty):
    """Stopping early does not change the finished sequences."""
    params = init_model(seed, vocab_size=6)
    state = lj.zero_state(params["lstm"])
    want = plain_beam_search(params, state, 0, beam_size=3, max_length=8, length_penalty=length_penalty)
    result = decoding.beam_search(
        step, params, state, 0, beam_size=3, max_length=8, eos_token=EOS, length_penalty=length_penalty
    )
    for place, (score, tokens) in enumerate(want):
        np.testing.assert_allclose(result.score[place], score, rtol=1e-5)
        assert tuple(np.asarray(result.tokens[place])[: len(tokens)]) == tokens
        assert result.length[place] == len(tokens) - 1


def test_the_search_stops_when_no_live_sequence_can_win():
    """One more step would give NaN."""
    logits = jnp.array([0.0, 9.0, -9.0])

    def step(params, number, token):
        return number + 1, jnp.where(number < 3, logits, jnp.nan)

    result = decoding.beam_search(
        step, None, jnp.array(0), 0, beam_size=1, max_length=50, eos_token=1, length_penalty=0.0
    )
    assert np.isfinite(result.score[0])
    assert result.length[0] == 0


def test_one_beam_that_never_ends_is_greedy():
    """The logit of EOS is -inf, so that the one beam follows the most probable token."""

    def endless(params, state, token):
        state, logits = step(params, state, token)
        return state, logits.at[EOS].set(-jnp.inf)

    params = init_model(3)
    state = lj.zero_state(params["lstm"])
    beam = decoding.beam_search(endless, params, state, 0, beam_size=1, max_length=9, eos_token=EOS)
    greedy = decoding.greedy(endless, params, state, 0, max_length=9)
    np.testing.assert_array_equal(beam.tokens[0], greedy.tokens)
    np.testing.assert_allclose(beam.score[0] * (14 / 6) ** 0.6, greedy.score, rtol=1e-6)


def test_greedy_takes_the_largest_and_stops_at_the_end():
    params = init_model(1)
    state = lj.zero_state(params["lstm"])
    free = decoding.greedy(step, params, state, 0, max_length=12)
    read = [0]
    for token in np.asarray(free.tokens):
        _, ys = lj.lstm(params["lstm"], params["embedding"][np.array(read)], state)
        assert token == int(np.argmax(ys[-1] @ params["head"]))
        read.append(int(token))
    assert free.length == 12
    np.testing.assert_allclose(free.score, log_probability(params, state, 0, np.asarray(free.tokens)).sum(), rtol=1e-5)
    eos_token = int(free.tokens[5])
    place = list(np.asarray(free.tokens)).index(eos_token)
    cut = decoding.greedy(step, params, state, 0, max_length=12, eos_token=eos_token)
    assert cut.length == place
    np.testing.assert_array_equal(cut.tokens[:place], free.tokens[:place])
    assert (cut.tokens[place:] == eos_token).all()
    np.testing.assert_allclose(
        cut.score, log_probability(params, state, 0, np.asarray(cut.tokens[: place + 1])).sum(), rtol=1e-5
    )


LOGITS = jnp.log(jnp.array([0.05, 0.4, 0.25, 0.2, 0.1]))


def kept_tokens(logits):
    return set(np.flatnonzero(np.isfinite(logits)))


def test_top_k_keeps_the_largest():
    for k, want in ((1, {1}), (2, {1, 2}), (4, {1, 2, 3, 4}), (9, {0, 1, 2, 3, 4})):
        assert kept_tokens(decoding.keep_top_k(LOGITS, k)) == want
    np.testing.assert_array_equal(decoding.keep_top_k(LOGITS, 9), LOGITS)
    with pytest.raises(ValueError, match="top_k: got 0, want at least 1"):
        decoding.keep_top_k(LOGITS, 0)


def test_nucleus_keeps_the_fewest_that_reach_p():
    for p, want in ((0.0, {1}), (0.39, {1}), (0.41, {1, 2}), (0.64, {1, 2}), (0.84, {1, 2, 3}), (1.0, set(range(5)))):
        assert kept_tokens(decoding.keep_top_p(LOGITS, p)) == want


def constant_step(params, state, token):
    """A step whose logits do not depend on the token, so that the distribution is known."""
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
def test_samples_follow_the_truncated_distribution(options, want):
    count = 40_000
    result = decoding.sample(jax.random.key(5), constant_step, None, (), 0, max_length=count, **options)
    want = np.asarray(want) / np.sum(want)
    frequencies = np.bincount(result.tokens, minlength=5) / count
    assert (frequencies[want == 0] == 0).all()
    np.testing.assert_allclose(frequencies, want, atol=5 * np.sqrt(0.25 / count))  # five standard deviations
    np.testing.assert_allclose(result.score, np.log(want[np.asarray(result.tokens)]).sum(), rtol=1e-5)


def test_vmap_decodes_a_batch():
    params = init_model(4)
    states = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(6), (3, *leaf.shape)), lj.zero_state(params["lstm"])
    )
    start_tokens = jnp.array([0, 2, 3])
    search = partial(decoding.beam_search, step, beam_size=3, max_length=6, eos_token=EOS)
    batch = jax.vmap(search, in_axes=(None, 0, 0))(params, states, start_tokens)
    for row in range(3):
        alone = search(params, jax.tree.map(lambda leaf, row=row: leaf[row], states), start_tokens[row])
        np.testing.assert_array_equal(batch.tokens[row], alone.tokens)
        np.testing.assert_allclose(batch.score[row], alone.score, rtol=1e-6)


def test_beams_share_params():
    """A memory in ``params`` is not copied for each beam."""
    memory = jnp.ones((1000, 32))

    def sum_memory(params, state, token):
        return state, jnp.ones(VOCAB_SIZE) * params.sum()

    jaxpr = jax.make_jaxpr(
        lambda memory: decoding.beam_search(sum_memory, memory, (), 0, beam_size=7, max_length=5, eos_token=EOS)
    )(memory)
    assert "7,1000,32" not in str(jaxpr)
    assert "1000,32" in str(jaxpr)


def test_the_same_step_compiles_once():
    params = init_model(2)
    state = lj.zero_state(params["lstm"])
    num_compiled = decoding.greedy._cache_size()
    for start_token in range(3):
        decoding.greedy(step, params, state, start_token, max_length=7, eos_token=EOS)
    assert decoding.greedy._cache_size() == num_compiled + 1


@pytest.mark.parametrize("wrong", ["beam_size", "max_length"])
def test_wrong_sizes_are_named(wrong):
    sizes = {"beam_size": 2, "max_length": 3, wrong: 0}
    with pytest.raises(ValueError, match=f"{wrong}: got 0, want at least 1"):
        decoding.beam_search(step, init_model(0), lj.zero_state(init_model(0)["lstm"]), 0, eos_token=EOS, **sizes)


def test_an_eos_token_outside_the_vocabulary_is_refused():
    params = init_model(0)
    state = lj.zero_state(params["lstm"])
    for call in (
        lambda: decoding.beam_search(step, params, state, 0, beam_size=2, max_length=3, eos_token=VOCAB_SIZE),
        lambda: decoding.greedy(step, params, state, 0, max_length=3, eos_token=VOCAB_SIZE),
        lambda: decoding.sample(jax.random.key(0), step, params, state, 0, max_length=3, eos_token=-1),
    ):
        with pytest.raises(ValueError, match=r"eos_token: got .*, want a token from 0 to 3"):
            call()
