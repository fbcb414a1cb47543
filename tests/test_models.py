"""The models: what they compute, that padding is nothing, that training and decoding agree."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax import decoding
from lstm_jax.models import classifier, forecaster, memory_qa, seq2seq
from lstm_jax.models import language_model as lm

WIDE = {"dtype": jnp.float64}
"""where equal means equal to rounding"""
KEY = jax.random.key(0)
CLASSIFIER = classifier.init_classifier(
    KEY, 11, 3, embedding_size=4, hidden_size=5, num_layers=2, use_attention=True, **WIDE
)
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
        query, memory, score = map(np.asarray, CLASSIFIER.attention[0])
        scores = np.tanh(ys @ memory + np.asarray(CLASSIFIER.attention[1]) @ query) @ score
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
    same = classifier.classify(CLASSIFIER, CODES, LENGTHS, dropout_rate=0.5).logits
    np.testing.assert_array_equal(same, classifier.classify(CLASSIFIER, CODES, LENGTHS).logits)
    dropped = classifier.classify(CLASSIFIER, CODES, LENGTHS, dropout_rate=0.5, key=KEY).logits
    assert not np.allclose(dropped[0], same[0])
    with pytest.raises(ValueError, match="pooling: got 'sum', want one of"):
        classifier.classify(CLASSIFIER, CODES, LENGTHS, pooling="sum")


LM = lm.init_language_model(KEY, 13, embedding_size=4, hidden_size=6, **WIDE)
WORDS = jax.random.randint(jax.random.key(2), (9, 2), 0, 13)


def test_a_text_in_pieces_is_the_text_in_one():
    whole = lm.apply(LM, None, WORDS)
    first = lm.apply(LM, None, WORDS[:4])
    rest = lm.apply(LM, first.states, WORDS[4:])
    np.testing.assert_allclose(np.concatenate([first.ys, rest.ys]), whole.ys, rtol=1e-12)
    states = lj.stack_zero_state(LM.layers)
    for number in range(9):
        states, scores = lm.decode_step(LM, states, WORDS[number, 0])
        np.testing.assert_allclose(scores, lm.logits(LM, whole.ys[number, 0]), rtol=1e-10)


def test_the_embedding_is_tied():
    scores = lm.logits(LM, jnp.eye(4, dtype=jnp.float64))
    np.testing.assert_allclose(np.asarray(scores) - np.asarray(LM.bias), LM.embedding.T, rtol=1e-12)


@pytest.mark.parametrize("name", lm.DropoutRates._fields)
def test_each_dropout_does_something_and_none_without_a_key(name):
    plain = lm.apply(LM, None, WORDS)
    some = lm.DropoutRates(**{name: 0.5})
    np.testing.assert_array_equal(lm.apply(LM, None, WORDS, dropout_rates=some).ys, plain.ys)
    np.testing.assert_array_equal(lm.apply(LM, None, WORDS, key=KEY).ys, plain.ys)
    found = lm.apply(LM, None, WORDS, key=KEY, dropout_rates=some)
    assert not np.allclose(found.ys, plain.ys)
    if name == "outputs":
        np.testing.assert_allclose(found.raw_ys, plain.ys, rtol=1e-12)
        zeros = np.asarray(found.ys == 0)
        assert (zeros == zeros[:1]).all(), "one mask for all steps"


def test_a_sampled_softmax_nears_the_full_one():
    """Value and gradient, with more words drawn than there are, and words far from equally often drawn."""
    ys = 3 * jax.random.normal(jax.random.key(3), (5, 2, 4), jnp.float64)
    targets = WORDS[:5]
    share = jnp.log(jnp.arange(1.0, 14.0) / 5)
    params = LM._replace(embedding=LM.embedding * 10)

    def sampled(params, key, count):
        return lm.sampled_softmax_loss(key, params, ys, targets, share, count).mean()

    def full(params):
        logp = jax.nn.log_softmax(lm.logits(params, ys))
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
    nats = lm.sampled_softmax_loss(KEY, params, jnp.zeros((13, 4)), jnp.arange(13), share, 200_000)
    np.testing.assert_allclose(nats, np.log(13), rtol=0.01)


TRANSLATORS = {
    attends: seq2seq.init_seq2seq(KEY, 9, 8, embedding_size=4, hidden_size=3, use_attention=attends, **WIDE)
    for attends in (True, False)
}
SOURCE = jax.random.randint(jax.random.key(5), (6, 3), 0, 9)
SOURCE_LENGTHS = jnp.array([6, 3, 1])
TARGET = jax.random.randint(jax.random.key(6), (5, 3), 0, 8)


@pytest.mark.parametrize("attends", [True, False])
def test_a_translated_batch_is_its_sentences_by_themselves(attends):
    params = TRANSLATORS[attends]
    found = seq2seq.teacher_force(params, SOURCE, SOURCE_LENGTHS, TARGET)
    assert found.weights.shape == (5, 6, 3)
    for row, length in enumerate([6, 3, 1]):
        alone = seq2seq.teacher_force(params, SOURCE[:length, row], jnp.array(length), TARGET[:, row])
        np.testing.assert_allclose(found.logits[:, row], alone.logits, rtol=1e-10)
        np.testing.assert_allclose(found.weights[:, :length, row], alone.weights, rtol=1e-10)
        assert not found.weights[:, length:, row].any()
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0 if attends else 0.0, rtol=1e-12)


def test_a_translation_is_what_its_equations_say():
    params = TRANSLATORS[True]
    source, target = SOURCE[:, 0], TARGET[:, 0]
    (both,), memory = lj.lstm_stack(params.encoder, params.source[source])
    u = np.concatenate([both.forward.h, both.backward.h, both.forward.c, both.backward.c]) @ params.bridge.kernel
    start = lj.LSTMState(jnp.tanh(u[:3] + params.bridge.bias[:3]), jnp.asarray(u[3:] + params.bridge.bias[3:]))
    _, ys = lj.lstm(params.decoder, params.target[target], start)
    ys, memory = np.asarray(ys), np.asarray(memory)
    query, keys, score = map(np.asarray, params.attention)
    scores = np.tanh(memory @ keys + (ys @ query)[:, None]) @ score
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    mixed = np.tanh(
        np.concatenate([ys, weights @ memory], axis=1) @ params.mix.kernel + np.asarray(params.mix.bias)[None]
    )
    found = seq2seq.teacher_force(params, source, jnp.array(6), target)
    np.testing.assert_allclose(found.weights, weights, rtol=1e-10)
    np.testing.assert_allclose(found.logits, mixed @ params.target.T + np.asarray(params.bias)[None], rtol=1e-10)


@pytest.mark.parametrize("attends", [True, False])
def test_decoding_scores_what_training_scores(attends):
    """The probability that a beam gives its sentence is the one that the model gives it when it is known."""
    params = TRANSLATORS[attends]
    memory, states = seq2seq.encode(params, SOURCE, SOURCE_LENGTHS)
    search = partial(
        decoding.beam_search, seq2seq.decode_step, beam_size=4, max_length=5, eos_token=2, length_penalty=0.0
    )
    found = jax.vmap(search, in_axes=((None, 1), 0, None))((params, memory), states, 1)
    for row, length in enumerate([6, 3, 1]):
        for beam in range(4):
            n = int(found.length[row, beam])
            tokens = np.asarray(found.tokens[row, beam])[: min(n + 1, 5)]
            read = jnp.array([1, *tokens[:-1]])
            logits = seq2seq.teacher_force(params, SOURCE[:length, row], jnp.array(length), read).logits
            logp = jax.nn.log_softmax(logits)[np.arange(len(tokens)), tokens].sum()
            np.testing.assert_allclose(found.score[row, beam], logp, rtol=1e-5)


READER = memory_qa.init_memory_qa(KEY, 9, 4, embedding_size=5, hidden_size=3, **WIDE)


def test_an_answer_depends_on_what_is_there_alone():
    draw = partial(jax.random.randint, minval=0, maxval=9)
    sentences, question = draw(jax.random.key(7), (4, 5, 2)), draw(jax.random.key(8), (3, 2))
    words = jnp.array([[4, 2, 3, 1, 4], [2, 4, 0, 0, 0]]).T
    story = memory_qa.Story(sentences, words, question, jnp.array([3, 2]))
    found = memory_qa.answer(READER, story)
    assert found.weights.shape == (2, 5, 2)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-12)
    short = memory_qa.Story(sentences[:, :2, 1], words[:2, 1], question[:2, 1], jnp.array(2))
    alone = memory_qa.answer(READER, short)
    np.testing.assert_allclose(found.logits[1], alone.logits, rtol=1e-10)
    np.testing.assert_allclose(found.weights[:, :2, 1], alone.weights, rtol=1e-10)
    assert not found.weights[:, 2:, 1].any()
    other = story._replace(sentences=sentences.at[:, 0, 0].set((sentences[:, 0, 0] + 1) % 9))
    assert not np.allclose(memory_qa.answer(READER, other).logits[0], found.logits[0])
    np.testing.assert_array_equal(memory_qa.answer(READER, other).logits[1], found.logits[1])


def test_an_answer_is_what_its_equations_say():
    keys = jax.random.split(jax.random.key(9), 2)
    sentences, question = jax.random.randint(keys[0], (4, 5), 0, 9), jax.random.randint(keys[1], (3,), 0, 9)
    told, _ = lj.lstm(READER.words, READER.embedding[sentences])
    asked, _ = lj.lstm(READER.words, READER.embedding[question])
    q = np.asarray(asked.h)
    _, ys = lj.lstm_stack(READER.story, jnp.asarray(np.concatenate([told.h, np.tile(q, (5, 1))], axis=1)))
    ys, u = np.asarray(ys), q
    for attends, take in READER.looks:
        query, memory, score = map(np.asarray, attends)
        scores = np.tanh(ys @ memory + u @ query) @ score
        weights = np.exp(scores) / np.exp(scores).sum()
        u = np.tanh(u + weights @ ys @ np.asarray(take.kernel) + np.asarray(take.bias))
    story = memory_qa.Story(sentences, jnp.full(5, 4), question, jnp.array(3))
    found = memory_qa.answer(READER, story)
    np.testing.assert_allclose(found.weights[-1], weights, rtol=1e-10)
    np.testing.assert_allclose(found.logits, u @ np.asarray(READER.head.kernel) + READER.head.bias, rtol=1e-10)


def test_a_sentence_that_is_not_there_may_stand_anywhere():
    sentences = jax.random.randint(KEY, (4, 3), 0, 9)
    asked = jnp.array([1, 2]), jnp.array(2)
    with_hole = memory_qa.answer(READER, memory_qa.Story(sentences, jnp.array([4, 0, 3]), *asked))
    without = memory_qa.answer(READER, memory_qa.Story(sentences[:, np.array([0, 2])], jnp.array([4, 3]), *asked))
    np.testing.assert_allclose(with_hole.logits, without.logits, rtol=1e-10)
    assert not with_hole.weights[:, 1].any()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_every_model_runs_in_every_dtype(dtype):
    """Parameters, results and gradients are of it, and finite."""
    count = jnp.array([5, 3])
    codes = CODES[:5, :2] % 8
    story = memory_qa.Story(codes[None, :, :], jnp.ones((5, 2), jnp.int32), codes[:2], jnp.array([2, 2]))
    cases = [
        (classifier.init_classifier(KEY, 8, 3, hidden_size=4, use_attention=True, dtype=dtype), classify_all),
        (lm.init_language_model(KEY, 8, embedding_size=4, hidden_size=4, dtype=dtype), sampled_loss),
        (
            seq2seq.init_seq2seq(KEY, 8, 8, embedding_size=4, hidden_size=4, dtype=dtype),
            lambda params, codes, count: seq2seq.teacher_force(params, codes, count, codes).logits,
        ),
        (
            memory_qa.init_memory_qa(KEY, 8, 3, embedding_size=4, hidden_size=4, dtype=dtype),
            lambda params, codes, count: memory_qa.answer(params, story).logits,
        ),
    ]
    for params, run in cases:
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
        gradient = jax.jit(jax.grad(lambda params, run=run: run(params, codes, count).astype(jnp.float32).sum()))(
            params
        )
        assert all(np.isfinite(leaf.astype(jnp.float32)).all() for leaf in jax.tree.leaves(gradient))
        assert any(leaf.any() for leaf in jax.tree.leaves(gradient))


def classify_all(params, codes, count):
    found = [classifier.classify(params, codes, count, pooling=pooling).logits for pooling in classifier.POOLINGS]
    assert {one.dtype for one in found} == {params.head.kernel.dtype}
    return jnp.stack(found)


def sampled_loss(params, codes, count):
    return lm.sampled_softmax_loss(KEY, params, lm.apply(params, None, codes).ys, codes, jnp.zeros(8), 64)


def test_dropout_of_each_model_needs_its_key():
    params = TRANSLATORS[True]
    plain = seq2seq.teacher_force(params, SOURCE, SOURCE_LENGTHS, TARGET).logits
    dropped = seq2seq.teacher_force(params, SOURCE, SOURCE_LENGTHS, TARGET, key=KEY, dropout_rate=0.5).logits
    np.testing.assert_array_equal(
        plain, seq2seq.teacher_force(params, SOURCE, SOURCE_LENGTHS, TARGET, dropout_rate=0.5).logits
    )
    assert not np.allclose(plain, dropped)
    story = memory_qa.Story(SOURCE[:4, :], jnp.full(3, 4), SOURCE[:2, 0], jnp.array(2))
    assert not np.allclose(
        memory_qa.answer(READER, story).logits, memory_qa.answer(READER, story, key=KEY, dropout_rate=0.5).logits
    )


def test_sizes_that_make_no_model_are_refused():
    with pytest.raises(ValueError, match="num_layers: got 0, want at least 1"):
        lm.init_language_model(KEY, 8, num_layers=0)
    with pytest.raises(ValueError, match="looks: got 0, want at least 1"):
        memory_qa.init_memory_qa(KEY, 8, 3, num_hops=0)
    params = classifier.init_classifier(KEY, 8, 3, dtype=jnp.float64)
    with pytest.raises(ValueError, match=r'pooling: got "attention" and parameters without it'):
        classifier.classify(params, CODES % 8, LENGTHS, pooling="attention")


FORECASTERS = {
    decodes: forecaster.init_forecaster(KEY, 3, 2, 4, 3, hidden_size=5, use_decoder=decodes, **WIDE)
    for decodes in (True, False)
}


@pytest.mark.parametrize("decodes", [True, False])
def test_a_forecaster_that_learned_nothing_is_the_naive_forecast(decodes):
    past, future, naive = (jax.random.normal(KEY, shape, jnp.float64) for shape in ((6, 2, 3), (4, 2, 2), (4, 2)))
    found = forecaster.forecast(FORECASTERS[decodes], past, future, naive)
    np.testing.assert_array_equal(found, np.repeat(naive[..., None], 3, axis=-1))


@pytest.mark.parametrize("decodes", [True, False])
def test_quantiles_ascend_and_a_batch_is_its_series_by_themselves(decodes):
    params = jax.tree.map(lambda leaf: jax.random.normal(KEY, leaf.shape, leaf.dtype), FORECASTERS[decodes])
    past, future, naive = (jax.random.normal(KEY, shape, jnp.float64) for shape in ((6, 2, 3), (4, 2, 2), (4, 2)))
    found = forecaster.forecast(params, past, future, naive)
    assert found.shape == (4, 2, 3)
    assert (jnp.diff(found, axis=-1) >= 0).all()
    assert (jnp.diff(found, axis=-1) > 0).any()
    for row in range(2):
        alone = forecaster.forecast(params, past[:, row], future[:, row], naive[:, row])
        np.testing.assert_allclose(found[:, row], alone, rtol=1e-10)
    assert not np.allclose(forecaster.forecast(params, past + 1, future, naive), found)
    same = forecaster.forecast(params, past, future + 1, naive)
    assert np.allclose(same, found) != decodes


def test_a_decoder_steps_into_the_future_and_a_direct_head_says_all_at_once():
    """A change of what is known of a step leaves the steps before it alone."""
    params = jax.tree.map(lambda leaf: jax.random.normal(KEY, leaf.shape, leaf.dtype), FORECASTERS[True])
    past, future, naive = (jax.random.normal(KEY, shape, jnp.float64) for shape in ((6, 3), (4, 2), (4,)))
    found = forecaster.forecast(params, past, future, naive)
    other = forecaster.forecast(params, past, future.at[2].add(1.0), naive)
    np.testing.assert_allclose(found[:2], other[:2], rtol=1e-12)
    assert not np.allclose(found[2:], other[2:])
    direct = jax.tree.map(lambda leaf: jax.random.normal(KEY, leaf.shape, leaf.dtype), FORECASTERS[False])
    state, _ = lj.lstm_stack(direct.layers, past)
    out = (state[0].h @ direct.head.kernel + direct.head.bias).reshape(4, 3)
    want = naive[:, None] + jnp.sort(out, axis=-1)
    np.testing.assert_allclose(forecaster.forecast(direct, past, future, naive), want, rtol=1e-10)
