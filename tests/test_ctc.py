"""Decoding of CTC against brute force: every path of a small problem."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lstm_jax import decoding

V, T = 3, 5


def labelling(path, blank=0):
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def exact(logits, blank=0):
    """The probability of each labelling, all its paths added up."""
    logp = np.asarray(jax.nn.log_softmax(logits))
    found = {}
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        name = labelling(path, blank)
        found[name] = found.get(name, 0.0) + np.exp(logp[np.arange(len(path)), path].sum())
    return found


def draw(seed, steps=T, labels=V):
    return 2 * jax.random.normal(jax.random.key(seed), (steps, labels), jnp.float32)


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_every_labelling_with_its_probability(seed, blank):
    logits = draw(seed)
    want = sorted(exact(logits, blank).items(), key=lambda item: -item[1])
    found = decoding.ctc_beam_search(logits, T, beam_size=len(want) + 3, blank=blank)
    assert np.isneginf(found.score[len(want) :]).all()
    for place, (tokens, probability) in enumerate(want):
        np.testing.assert_allclose(np.exp(found.score[place]), probability, rtol=1e-4)
        assert tuple(np.asarray(found.tokens[place])[: found.length[place]]) == tokens
        assert (found.tokens[place][found.length[place] :] == blank).all()


@pytest.mark.usefixtures("standard_promotion")
def test_scores_are_those_of_the_loss():
    logits = draw(7, steps=9, labels=4)
    found = decoding.ctc_beam_search(logits, 9, beam_size=400)
    for place in range(5):
        n = int(found.length[place])
        labels = jnp.where(jnp.arange(9) < n, found.tokens[place], 0)[None]
        loss = optax.ctc_loss(logits[None], jnp.zeros((1, 9)), labels, (jnp.arange(9) >= n)[None].astype(jnp.float32))
        np.testing.assert_allclose(-found.score[place], loss[0], rtol=1e-3)


def test_greedy_is_the_labelling_of_the_best_path():
    for seed in range(10):
        logits = draw(seed, steps=12)
        found = decoding.ctc_greedy(logits, 12)
        path = np.asarray(logits).argmax(axis=-1)
        want = labelling(path)
        n = int(found.length)
        assert tuple(np.asarray(found.tokens)[:n]) == want
        assert not found.tokens[n:].any()
        np.testing.assert_allclose(found.score, np.asarray(jax.nn.log_softmax(logits)).max(axis=-1).sum(), rtol=1e-5)


def test_a_beam_finds_what_greedy_misses():
    """Two paths of one labelling outweigh the best single path."""
    logits = jnp.log(jnp.array([[0.55, 0.45], [0.55, 0.45]]))
    assert decoding.ctc_greedy(logits, 2).length == 0
    found = decoding.ctc_beam_search(logits, 2, beam_size=2)
    assert tuple(np.asarray(found.tokens[0])[: found.length[0]]) == (1,)
    np.testing.assert_allclose(np.exp(found.score[0]), 1 - 0.55**2, rtol=1e-5)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_frames_behind_the_length_are_not_read(length):
    logits = draw(3)
    spoilt = logits.at[length:].set(jnp.nan)
    for decode in (decoding.ctc_greedy, lambda logits, length: decoding.ctc_beam_search(logits, length, beam_size=4)):
        found, short = decode(spoilt, length), decode(logits[: max(length, 1)], length)
        np.testing.assert_array_equal(found.length, short.length)
        np.testing.assert_allclose(found.score, short.score, rtol=1e-5)


def test_no_labelling_is_longer_than_asked():
    logits = draw(5, steps=8)
    found = decoding.ctc_beam_search(logits, 8, beam_size=60, max_labels=2)
    want = {tokens: p for tokens, p in exact(logits).items() if len(tokens) <= 2}
    assert found.tokens.shape == (60, 2)
    for tokens, length, score in zip(found.tokens, found.length, found.score, strict=True):
        if np.isfinite(score):
            np.testing.assert_allclose(np.exp(score), want[tuple(np.asarray(tokens)[:length])], rtol=1e-4)


def test_a_batch_is_a_map_over_sequences():
    logits = jnp.stack([draw(seed) for seed in range(3)])
    lengths = jnp.array([5, 2, 4])
    together = jax.vmap(lambda logits, length: decoding.ctc_beam_search(logits, length, beam_size=3))(logits, lengths)
    for row in range(3):
        alone = decoding.ctc_beam_search(logits[row], lengths[row], beam_size=3)
        np.testing.assert_array_equal(together.tokens[row], alone.tokens)
        np.testing.assert_allclose(together.score[row], alone.score, rtol=1e-6)
    with pytest.raises(ValueError, match="beams: got 0, want at least 1"):
        decoding.ctc_beam_search(logits[0], 5, beam_size=0)
