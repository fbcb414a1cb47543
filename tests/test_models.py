"""The models: what they compute, that padding is nothing, that training and decoding agree."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax import decoding
from lstm_jax.models import classifier, reader, translator
from lstm_jax.models import language_model as lm

WIDE = {"dtype": jnp.float64}
"""where equal means equal to rounding"""
KEY = jax.random.key(0)
CLASSIFIER = classifier.init_classifier(KEY, 11, 3, embedding_size=4, hidden_size=5, num_layers=2, **WIDE)
CODES = jax.random.randint(jax.random.key(1), (7, 3), 0, 11)
LENGTHS = jnp.array([7, 4, 0])


@pytest.mark.parametrize("pooling", classifier.POOLINGS)
def test_a_classified_batch_is_its_sequences_by_themselves(pooling):
    found = classifier.classify(CLASSIFIER, CODES, LENGTHS, pooling=pooling)
    for row, length in enumerate([7, 4]):
        alone = classifier.classify(CLASSIFIER, CODES[:length, row], jnp.array(length), pooling=pooling)
        np.testing.assert_allclose(found.logits[row], alone.logits, rtol=1e-12)
        np.testing.assert_allclose(found.weights[:length, row], alone.weights, rtol=1e-12)
        assert not found.weights[length:, row].any()
        np.testing.assert_allclose(found.weights[:, row].sum(), 1, rtol=1e-12)
    np.testing.assert_array_equal(found.logits[2], CLASSIFIER.head.bias)
    assert not found.weights[:, 2].any()


@pytest.mark.parametrize("pooling", classifier.POOLINGS)
def test_pooling_is_what_its_equation_says(pooling):
    found = classifier.classify(CLASSIFIER, CODES[:, 0], LENGTHS[0], pooling=pooling)
    _, ys = lj.lstm_stack(CLASSIFIER.layers, CLASSIFIER.embedding[CODES[:, 0]])
    ys = np.asarray(ys)
    if pooling == "last":
        pooled, weights = np.concatenate([ys[-1, :5], ys[0, 5:]]), np.eye(7)[6]
    elif pooling == "max":
        pooled = ys.max(axis=0)
        weights = np.bincount(ys.argmax(axis=0), minlength=7) / ys.shape[1]
    elif pooling == "mean":
        pooled, weights = ys.mean(axis=0), np.full(7, 1 / 7)
    else:
        query, memory, score = (np.asarray(leaf) for leaf in CLASSIFIER.attention)
        scores = np.tanh(ys @ memory + np.asarray(CLASSIFIER.query) @ query) @ score
        weights = np.exp(scores) / np.exp(scores).sum()
        pooled = weights @ ys
    np.testing.assert_allclose(found.weights, weights, rtol=1e-10)
    np.testing.assert_allclose(found.logits, pooled @ np.asarray(CLASSIFIER.head.kernel), rtol=1e-10)


@pytest.mark.parametrize("pooling", classifier.POOLINGS)
def test_no_gradient_comes_from_padding_or_empty_sequences(pooling):
    def loss(embedded):
        params = CLASSIFIER._replace(embedding=embedded)
        return classifier.classify(params, codes, LENGTHS, pooling=pooling).logits.sum()

    codes = jnp.where(lj.lengths_to_mask(LENGTHS, 7), CODES % 10, 10)  # 10 stands for padding alone
    gradient = jax.grad(loss)(CLASSIFIER.embedding)
    assert np.isfinite(gradient).all()
    assert not gradient[10].any()
    assert gradient[:10].any()


def test_features_are_read_as_they_are():
    params = classifier.init_classifier(KEY, None, 3, embedding_size=4, hidden_size=5, bidirectional=False, **WIDE)
    xs = jax.random.normal(jax.random.key(3), (7, 3, 4), jnp.float64)
    found = classifier.classify(params, xs, LENGTHS, pooling="last")
    state, _ = lj.lstm_stack(params.layers, xs, lengths=LENGTHS)
    np.testing.assert_allclose(found.logits, state[0].h @ params.head.kernel, rtol=1e-12)


def test_dropout_needs_a_key_and_changes_something():
    same = classifier.classify(CLASSIFIER, CODES, LENGTHS, rate=0.5).logits
    np.testing.assert_array_equal(same, classifier.classify(CLASSIFIER, CODES, LENGTHS).logits)
    dropped = classifier.classify(CLASSIFIER, CODES, LENGTHS, rate=0.5, key=KEY).logits
    assert not np.allclose(dropped[0], same[0])
    with pytest.raises(ValueError, match="pooling: got 'sum', want one of"):
        classifier.classify(CLASSIFIER, CODES, LENGTHS, pooling="sum")


LM = lm.init_language_model(KEY, 13, embedding_size=4, hidden_size=6, **WIDE)
WORDS = jax.random.randint(jax.random.key(2), (9, 2), 0, 13)


def test_a_text_in_pieces_is_the_text_in_one():
    whole = lm.read(LM, None, WORDS)
    first = lm.read(LM, None, WORDS[:4])
    rest = lm.read(LM, first.states, WORDS[4:])
    np.testing.assert_allclose(np.concatenate([first.ys, rest.ys]), whole.ys, rtol=1e-12)
    states = lj.stack_zero_state(LM.layers)
    for number in range(9):
        states, scores = lm.next_word(LM, states, WORDS[number, 0])
        np.testing.assert_allclose(scores, lm.score(LM, whole.ys[number, 0]), rtol=1e-10)


def test_the_embedding_is_tied():
    scores = lm.score(LM, jnp.eye(4, dtype=jnp.float64))
    np.testing.assert_allclose(np.asarray(scores) - np.asarray(LM.bias), LM.embedding.T, rtol=1e-12)


@pytest.mark.parametrize("name", lm.Dropouts._fields)
def test_each_dropout_does_something_and_none_without_a_key(name):
    plain = lm.read(LM, None, WORDS)
    some = lm.Dropouts(**{name: 0.5})
    np.testing.assert_array_equal(lm.read(LM, None, WORDS, dropouts=some).ys, plain.ys)
    np.testing.assert_array_equal(lm.read(LM, None, WORDS, key=KEY).ys, plain.ys)
    found = lm.read(LM, None, WORDS, key=KEY, dropouts=some)
    assert not np.allclose(found.ys, plain.ys)
    if name == "outputs":
        np.testing.assert_allclose(found.undropped, plain.ys, rtol=1e-12)
        zeros = np.asarray(found.ys == 0)
        assert (zeros == zeros[:1]).all(), "one mask for all steps"


def test_a_sampled_softmax_nears_the_full_one():
    """Value and gradient, with more words drawn than there are, and words far from equally often drawn."""
    ys = 3 * jax.random.normal(jax.random.key(3), (5, 2, 4), jnp.float64)
    targets = WORDS[:5]
    share = jnp.log(jnp.arange(1.0, 14.0) / 5)
    params = LM._replace(embedding=LM.embedding * 10)

    def sampled(params, key, count):
        return lm.sampled_nats(key, params, ys, targets, share, count).mean()

    def full(params):
        logp = jax.nn.log_softmax(lm.score(params, ys))
        return -jnp.take_along_axis(logp, targets[..., None], -1).mean()

    far = sampled(params, jax.random.key(4), 20)
    near, gradient = jax.value_and_grad(sampled)(params, jax.random.key(4), 400_000)
    want, want_gradient = jax.value_and_grad(full)(params)
    assert abs(near - want) < 0.01 * want < abs(far - want)
    for got, wanted in zip(jax.tree.leaves(gradient), jax.tree.leaves(want_gradient), strict=True):
        np.testing.assert_allclose(got, wanted, atol=0.02 * np.abs(wanted).max() + 1e-12)


def test_words_are_drawn_as_often_as_asked():
    """With all scores alike and one target, the loss tells how many of the drawn words were the target itself."""
    params = LM._replace(embedding=jnp.zeros_like(LM.embedding), bias=jnp.zeros_like(LM.bias))
    share = jnp.log(jnp.arange(1.0, 14.0))
    nats = lm.sampled_nats(KEY, params, jnp.zeros((13, 4)), jnp.arange(13), share, 200_000)
    np.testing.assert_allclose(nats, np.log(13), rtol=0.01)


TRANSLATORS = {
    attends: translator.init_translator(KEY, 9, 8, embedding_size=4, hidden_size=3, attends=attends, **WIDE)
    for attends in (True, False)
}
SOURCE = jax.random.randint(jax.random.key(5), (6, 3), 0, 9)
SOURCE_LENGTHS = jnp.array([6, 3, 1])
TARGET = jax.random.randint(jax.random.key(6), (5, 3), 0, 8)


@pytest.mark.parametrize("attends", [True, False])
def test_a_translated_batch_is_its_sentences_by_themselves(attends):
    params = TRANSLATORS[attends]
    found = translator.translate(params, SOURCE, SOURCE_LENGTHS, TARGET)
    assert found.weights.shape == (5, 6, 3)
    for row, length in enumerate([6, 3, 1]):
        alone = translator.translate(params, SOURCE[:length, row], jnp.array(length), TARGET[:, row])
        np.testing.assert_allclose(found.logits[:, row], alone.logits, rtol=1e-10)
        np.testing.assert_allclose(found.weights[:, :length, row], alone.weights, rtol=1e-10)
        assert not found.weights[:, length:, row].any()
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0 if attends else 0.0, rtol=1e-12)


@pytest.mark.parametrize("attends", [True, False])
def test_decoding_scores_what_training_scores(attends):
    """The probability that a beam gives its sentence is the one that the model gives it when it is known."""
    params = TRANSLATORS[attends]
    memory, states = translator.encode(params, SOURCE, SOURCE_LENGTHS)
    search = partial(decoding.beam_search, translator.next_token, beams=4, length=5, end=2, length_penalty=0.0)
    found = jax.vmap(search, in_axes=((None, 1), 0, None))((params, memory), states, 1)
    for row, length in enumerate([6, 3, 1]):
        for beam in range(4):
            n = int(found.length[row, beam])
            tokens = np.asarray(found.tokens[row, beam])[: min(n + 1, 5)]
            read = jnp.array([1, *tokens[:-1]])
            logits = translator.translate(params, SOURCE[:length, row], jnp.array(length), read).logits
            logp = jax.nn.log_softmax(logits)[np.arange(len(tokens)), tokens].sum()
            np.testing.assert_allclose(found.score[row, beam], logp, rtol=1e-5)


READER = reader.init_reader(KEY, 9, 4, embedding_size=5, hidden_size=3, **WIDE)


def test_an_answer_depends_on_what_is_there_alone():
    draw = partial(jax.random.randint, minval=0, maxval=9)
    sentences, question = draw(jax.random.key(7), (4, 5, 2)), draw(jax.random.key(8), (3, 2))
    words = jnp.array([[4, 2, 3, 1, 4], [2, 4, 0, 0, 0]]).T
    story = reader.Story(sentences, words, question, jnp.array([3, 2]))
    found = reader.answer(READER, story)
    assert found.weights.shape == (2, 5, 2)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-12)
    short = reader.Story(sentences[:, :2, 1], words[:2, 1], question[:2, 1], jnp.array(2))
    alone = reader.answer(READER, short)
    np.testing.assert_allclose(found.logits[1], alone.logits, rtol=1e-10)
    np.testing.assert_allclose(found.weights[:, :2, 1], alone.weights, rtol=1e-10)
    assert not found.weights[:, 2:, 1].any()
    other = story._replace(sentences=sentences.at[:, 0, 0].set((sentences[:, 0, 0] + 1) % 9))
    assert not np.allclose(reader.answer(READER, other).logits[0], found.logits[0])
    np.testing.assert_array_equal(reader.answer(READER, other).logits[1], found.logits[1])
