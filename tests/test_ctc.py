"""CTC decoding against brute force: every path of a small problem."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lstm_jax import decoding

NUM_LABELS, NUM_FRAMES = 3, 5


def labeling(path, blank=0):
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def exact(logits, blank=0):
    """The probability of each labeling, summed over all its paths."""
    logp = np.asarray(jax.nn.log_softmax(logits))
    probabilities = {}
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        labels = labeling(path, blank)
        probabilities[labels] = probabilities.get(labels, 0.0) + np.exp(logp[np.arange(len(path)), path].sum())
    return probabilities


def random_logits(seed, num_frames=NUM_FRAMES, num_labels=NUM_LABELS):
    return 2 * jax.random.normal(jax.random.key(seed), (num_frames, num_labels), jnp.float32)


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_every_labeling_with_its_probability(seed, blank):
    logits = random_logits(seed)
    want = sorted(exact(logits, blank).items(), key=lambda item: -item[1])
    result = decoding.ctc_beam_search(logits, NUM_FRAMES, beam_size=len(want) + 3, blank=blank)
    assert np.isneginf(result.score[len(want) :]).all()
    for place, (tokens, probability) in enumerate(want):
        np.testing.assert_allclose(np.exp(result.score[place]), probability, rtol=1e-4)
        assert tuple(np.asarray(result.tokens[place])[: result.length[place]]) == tokens
        assert (result.tokens[place][result.length[place] :] == blank).all()


@pytest.mark.usefixtures("standard_promotion")
def test_scores_are_those_of_the_loss():
    logits = random_logits(7, num_frames=9, num_labels=4)
    result = decoding.ctc_beam_search(logits, 9, beam_size=400)
    for place in range(5):
        n = int(result.length[place])
        labels = jnp.where(jnp.arange(9) < n, result.tokens[place], 0)[None]
        loss = optax.ctc_loss(logits[None], jnp.zeros((1, 9)), labels, (jnp.arange(9) >= n)[None].astype(jnp.float32))
        np.testing.assert_allclose(-result.score[place], loss[0], rtol=1e-3)


def test_greedy_returns_the_labeling_of_the_best_path():
    for seed in range(10):
        logits = random_logits(seed, num_frames=12)
        result = decoding.ctc_greedy(logits, 12)
        path = np.asarray(logits).argmax(axis=-1)
        want = labeling(path)
        n = int(result.length)
        assert tuple(np.asarray(result.tokens)[:n]) == want
        assert not result.tokens[n:].any()
        np.testing.assert_allclose(result.score, np.asarray(jax.nn.log_softmax(logits)).max(axis=-1).sum(), rtol=1e-5)


def test_a_beam_finds_the_labeling_that_greedy_misses():
    """Two paths of one labeling outweigh the best single path."""
    logits = jnp.log(jnp.array([[0.55, 0.45], [0.55, 0.45]]))
    assert decoding.ctc_greedy(logits, 2).length == 0
    result = decoding.ctc_beam_search(logits, 2, beam_size=2)
    assert tuple(np.asarray(result.tokens[0])[: result.length[0]]) == (1,)
    np.testing.assert_allclose(np.exp(result.score[0]), 1 - 0.55**2, rtol=1e-5)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_frames_after_the_length_are_not_read(length):
    logits = random_logits(3)
    padded = logits.at[length:].set(jnp.nan)
    for decode in (decoding.ctc_greedy, lambda logits, length: decoding.ctc_beam_search(logits, length, beam_size=4)):
        result, shortened = decode(padded, length), decode(logits[: max(length, 1)], length)
        np.testing.assert_array_equal(result.length, shortened.length)
        np.testing.assert_allclose(result.score, shortened.score, rtol=1e-5)


def test_no_labeling_is_longer_than_max_labels():
    logits = random_logits(5, num_frames=8)
    result = decoding.ctc_beam_search(logits, 8, beam_size=60, max_labels=2)
    want = {tokens: p for tokens, p in exact(logits).items() if len(tokens) <= 2}
    assert result.tokens.shape == (60, 2)
    for tokens, length, score in zip(result.tokens, result.length, result.score, strict=True):
        if np.isfinite(score):
            np.testing.assert_allclose(np.exp(score), want[tuple(np.asarray(tokens)[:length])], rtol=1e-4)


def test_vmap_decodes_a_batch():
    logits = jnp.stack([random_logits(seed) for seed in range(3)])
    lengths = jnp.array([5, 2, 4])
    batch = jax.vmap(lambda logits, length: decoding.ctc_beam_search(logits, length, beam_size=3))(logits, lengths)
    for row in range(3):
        alone = decoding.ctc_beam_search(logits[row], lengths[row], beam_size=3)
        np.testing.assert_array_equal(batch.tokens[row], alone.tokens)
        np.testing.assert_allclose(batch.score[row], alone.score, rtol=1e-6)
    with pytest.raises(ValueError, match="beam_size: got 0, want at least 1"):
        decoding.ctc_beam_search(logits[0], 5, beam_size=0)
