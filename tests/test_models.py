"""The models compute their equations, ignore padding, and score alike in training and in decoding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax import decoding
from lstm_jax.models import classifier, ctc_recognizer, forecaster, memory_qa, seq2seq
from lstm_jax.models import language_model as lm

FLOAT64 = {"dtype": jnp.float64}
"""the dtype in which equal means equal up to rounding"""
KEY = jax.random.key(0)
CLASSIFIER = classifier.init_classifier(
    KEY, 11, 3, embedding_size=4, hidden_size=5, num_layers=2, use_attention=True, **FLOAT64
)
TOKENS = jax.random.randint(jax.random.key(1), (7, 3), 0, 11)
LENGTHS = jnp.array([7, 4, 0])


@pytest.mark.parametrize("pooling", classifier.POOLINGS)
def test_classifying_a_batch_equals_classifying_each_sequence(pooling):
    output = classifier.classify(CLASSIFIER, TOKENS, LENGTHS, pooling=pooling)
    for row, length in enumerate([7, 4]):
        alone = classifier.classify(CLASSIFIER, TOKENS[:length, row], jnp.array(length), pooling=pooling)
        np.testing.assert_allclose(output.logits[row], alone.logits, rtol=1e-12)
        np.testing.assert_allclose(output.pooling_weights[:length, row], alone.pooling_weights, rtol=1e-12)
        assert not output.pooling_weights[length:, row].any()
        np.testing.assert_allclose(output.pooling_weights[:, row].sum(), 1, rtol=1e-12)
    np.testing.assert_array_equal(output.logits[2], CLASSIFIER.head.bias)
    assert not output.pooling_weights[:, 2].any()


@pytest.mark.parametrize("pooling", classifier.POOLINGS)
def test_pooling_follows_its_equation(pooling):
    output = classifier.classify(CLASSIFIER, TOKENS[:, 0], LENGTHS[0], pooling=pooling)
    _, ys = lj.lstm_stack(CLASSIFIER.layers, CLASSIFIER.embedding[TOKENS[:, 0]])
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
    np.testing.assert_allclose(output.pooling_weights, weights, rtol=1e-10)
    np.testing.assert_allclose(output.logits, pooled @ np.asarray(CLASSIFIER.head.kernel), rtol=1e-10)


@pytest.mark.parametrize("pooling", classifier.POOLINGS)
def test_no_gradient_comes_from_padding_or_empty_sequences(pooling):
    def loss(embedded):
        params = CLASSIFIER._replace(embedding=embedded)
        return classifier.classify(params, tokens, LENGTHS, pooling=pooling).logits.sum()

    tokens = jnp.where(lj.lengths_to_mask(LENGTHS, 7), TOKENS % 10, 10)  # token 10 occurs in the padding only
    gradient = jax.grad(loss)(CLASSIFIER.embedding)
    assert np.isfinite(gradient).all()
    assert not gradient[10].any()
    assert gradient[:10].any()


def test_features_are_read_without_embedding():
    params = classifier.init_classifier(KEY, None, 3, embedding_size=4, hidden_size=5, bidirectional=False, **FLOAT64)
    xs = jax.random.normal(jax.random.key(3), (7, 3, 4), jnp.float64)
    output = classifier.classify(params, xs, LENGTHS, pooling="last")
    state, _ = lj.lstm_stack(params.layers, xs, lengths=LENGTHS)
    np.testing.assert_allclose(output.logits, state[0].h @ params.head.kernel, rtol=1e-12)


def test_dropout_needs_a_key_and_changes_the_logits():
    without_key = classifier.classify(CLASSIFIER, TOKENS, LENGTHS, dropout_rate=0.5).logits
    np.testing.assert_array_equal(without_key, classifier.classify(CLASSIFIER, TOKENS, LENGTHS).logits)
    dropped = classifier.classify(CLASSIFIER, TOKENS, LENGTHS, dropout_rate=0.5, key=KEY).logits
    assert not np.allclose(dropped[0], without_key[0])
    with pytest.raises(ValueError, match="pooling: got 'sum', want one of"):
        classifier.classify(CLASSIFIER, TOKENS, LENGTHS, pooling="sum")


LM = lm.init_language_model(KEY, 13, embedding_size=4, hidden_size=6, **FLOAT64)
TEXT = jax.random.randint(jax.random.key(2), (9, 2), 0, 13)


def test_a_text_read_in_pieces_equals_the_text_read_at_once():
    whole = lm.apply(LM, None, TEXT)
    first = lm.apply(LM, None, TEXT[:4])
    rest = lm.apply(LM, first.states, TEXT[4:])
    np.testing.assert_allclose(np.concatenate([first.ys, rest.ys]), whole.ys, rtol=1e-12)
    states = lj.stack_zero_state(LM.layers)
    for number in range(9):
        states, scores = lm.decode_step(LM, states, TEXT[number, 0])
        np.testing.assert_allclose(scores, lm.logits(LM, whole.ys[number, 0]), rtol=1e-10)


def test_the_embedding_is_tied():
    scores = lm.logits(LM, jnp.eye(4, dtype=jnp.float64))
    np.testing.assert_allclose(np.asarray(scores) - np.asarray(LM.bias), LM.embedding.T, rtol=1e-12)


@pytest.mark.parametrize("name", lm.DropoutRates._fields)
def test_each_dropout_changes_the_outputs_and_needs_a_key(name):
    plain = lm.apply(LM, None, TEXT)
    rates = lm.DropoutRates(**{name: 0.5})
    np.testing.assert_array_equal(lm.apply(LM, None, TEXT, dropout_rates=rates).ys, plain.ys)
    np.testing.assert_array_equal(lm.apply(LM, None, TEXT, key=KEY).ys, plain.ys)
    output = lm.apply(LM, None, TEXT, key=KEY, dropout_rates=rates)
    assert not np.allclose(output.ys, plain.ys)
    if name == "output":
        np.testing.assert_allclose(output.raw_ys, plain.ys, rtol=1e-12)
        zeros = np.asarray(output.ys == 0)
        assert (zeros == zeros[:1]).all(), "one mask for all steps"


def test_a_sampled_softmax_approaches_the_full_one():
    """The value and the gradient do, with more samples than tokens and a proposal far from uniform."""
    ys = 3 * jax.random.normal(jax.random.key(3), (5, 2, 4), jnp.float64)
    targets = TEXT[:5]
    log_proposal = jnp.log(jnp.arange(1.0, 14.0) / 5)
    params = LM._replace(embedding=LM.embedding * 10)

    def sampled(params, key, num_samples):
        return lm.sampled_softmax_loss(key, params, ys, targets, log_proposal, num_samples).mean()

    def full(params):
        logp = jax.nn.log_softmax(lm.logits(params, ys))
        return -jnp.take_along_axis(logp, targets[..., None], -1).mean()

    rough = sampled(params, jax.random.key(4), 20)
    close, gradient = jax.value_and_grad(sampled)(params, jax.random.key(4), 400_000)
    want, want_gradient = jax.value_and_grad(full)(params)
    assert abs(close - want) < 0.01 * want < abs(rough - want)
    for got, wanted in zip(jax.tree.leaves(gradient), jax.tree.leaves(want_gradient), strict=True):
        np.testing.assert_allclose(got, wanted, atol=0.02 * np.abs(wanted).max() + 1e-12)


def test_tokens_are_sampled_from_the_proposal():
    """With equal logits the loss tells how many of the samples were the target itself."""
    params = LM._replace(embedding=jnp.zeros_like(LM.embedding), bias=jnp.zeros_like(LM.bias))
    log_proposal = jnp.log(jnp.arange(1.0, 14.0))
    nats = lm.sampled_softmax_loss(KEY, params, jnp.zeros((13, 4)), jnp.arange(13), log_proposal, 200_000)
    np.testing.assert_allclose(nats, np.log(13), rtol=0.01)


SEQ2SEQ = {
    use_attention: seq2seq.init_seq2seq(
        KEY, 9, 8, embedding_size=4, hidden_size=3, use_attention=use_attention, **FLOAT64
    )
    for use_attention in (True, False)
}
SOURCE = jax.random.randint(jax.random.key(5), (6, 3), 0, 9)
SOURCE_LENGTHS = jnp.array([6, 3, 1])
TARGET = jax.random.randint(jax.random.key(6), (5, 3), 0, 8)


@pytest.mark.parametrize("use_attention", [True, False])
def test_translating_a_batch_equals_translating_each_sentence(use_attention):
    params = SEQ2SEQ[use_attention]
    output = seq2seq.teacher_force(params, SOURCE, SOURCE_LENGTHS, TARGET)
    assert output.attention_weights.shape == (5, 6, 3)
    for row, length in enumerate([6, 3, 1]):
        alone = seq2seq.teacher_force(params, SOURCE[:length, row], jnp.array(length), TARGET[:, row])
        np.testing.assert_allclose(output.logits[:, row], alone.logits, rtol=1e-10)
        np.testing.assert_allclose(output.attention_weights[:, :length, row], alone.attention_weights, rtol=1e-10)
        assert not output.attention_weights[:, length:, row].any()
    np.testing.assert_allclose(output.attention_weights.sum(axis=1), 1.0 if use_attention else 0.0, rtol=1e-12)


def test_seq2seq_follows_its_equations():
    params = SEQ2SEQ[True]
    source, target = SOURCE[:, 0], TARGET[:, 0]
    (final,), memory = lj.lstm_stack(params.encoder, params.source_embedding[source])
    u = np.concatenate([final.forward.h, final.backward.h, final.forward.c, final.backward.c]) @ params.bridge.kernel
    start = lj.LSTMState(jnp.tanh(u[:3] + params.bridge.bias[:3]), jnp.asarray(u[3:] + params.bridge.bias[3:]))
    _, ys = lj.lstm(params.decoder, params.target_embedding[target], start)
    ys, memory = np.asarray(ys), np.asarray(memory)
    query, keys, score = map(np.asarray, params.attention)
    scores = np.tanh(memory @ keys + (ys @ query)[:, None]) @ score
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    combined = np.tanh(
        np.concatenate([ys, weights @ memory], axis=1) @ params.combine.kernel + np.asarray(params.combine.bias)[None]
    )
    output = seq2seq.teacher_force(params, source, jnp.array(6), target)
    np.testing.assert_allclose(output.attention_weights, weights, rtol=1e-10)
    np.testing.assert_allclose(
        output.logits, combined @ params.target_embedding.T + np.asarray(params.bias)[None], rtol=1e-10
    )


@pytest.mark.parametrize("use_attention", [True, False])
def test_decoding_scores_what_training_scores(use_attention):
    """The score of a beam is the log probability that ``teacher_force`` gives its tokens."""
    params = SEQ2SEQ[use_attention]
    memory, states = seq2seq.encode(params, SOURCE, SOURCE_LENGTHS)
    search = partial(
        decoding.beam_search, seq2seq.decode_step, beam_size=4, max_length=5, eos_token=2, length_penalty=0.0
    )
    output = jax.vmap(search, in_axes=((None, 1), 0, None))((params, memory), states, 1)
    for row, length in enumerate([6, 3, 1]):
        for beam in range(4):
            n = int(output.length[row, beam])
            tokens = np.asarray(output.tokens[row, beam])[: min(n + 1, 5)]
            read = jnp.array([1, *tokens[:-1]])
            logits = seq2seq.teacher_force(params, SOURCE[:length, row], jnp.array(length), read).logits
            logp = jax.nn.log_softmax(logits)[np.arange(len(tokens)), tokens].sum()
            np.testing.assert_allclose(output.score[row, beam], logp, rtol=1e-5)


QA = memory_qa.init_memory_qa(KEY, 9, 4, embedding_size=5, hidden_size=3, **FLOAT64)


def test_an_answer_depends_on_valid_words_and_sentences_only():
    random_tokens = partial(jax.random.randint, minval=0, maxval=9)
    sentences, question = random_tokens(jax.random.key(7), (4, 5, 2)), random_tokens(jax.random.key(8), (3, 2))
    sentence_lengths = jnp.array([[4, 2, 3, 1, 4], [2, 4, 0, 0, 0]]).T
    story = memory_qa.Story(sentences, sentence_lengths, question, jnp.array([3, 2]))
    output = memory_qa.answer(QA, story)
    assert output.attention_weights.shape == (2, 5, 2)
    np.testing.assert_allclose(output.attention_weights.sum(axis=1), 1, rtol=1e-12)
    short = memory_qa.Story(sentences[:, :2, 1], sentence_lengths[:2, 1], question[:2, 1], jnp.array(2))
    alone = memory_qa.answer(QA, short)
    np.testing.assert_allclose(output.logits[1], alone.logits, rtol=1e-10)
    np.testing.assert_allclose(output.attention_weights[:, :2, 1], alone.attention_weights, rtol=1e-10)
    assert not output.attention_weights[:, 2:, 1].any()
    changed = story._replace(sentences=sentences.at[:, 0, 0].set((sentences[:, 0, 0] + 1) % 9))
    assert not np.allclose(memory_qa.answer(QA, changed).logits[0], output.logits[0])
    np.testing.assert_array_equal(memory_qa.answer(QA, changed).logits[1], output.logits[1])


def test_memory_qa_follows_its_equations():
    keys = jax.random.split(jax.random.key(9), 2)
    sentences, question = jax.random.randint(keys[0], (4, 5), 0, 9), jax.random.randint(keys[1], (3,), 0, 9)
    encoded, _ = lj.lstm(QA.sentence_encoder, QA.embedding[sentences])
    encoded_question, _ = lj.lstm(QA.sentence_encoder, QA.embedding[question])
    q = np.asarray(encoded_question.h)
    _, ys = lj.lstm_stack(QA.story_encoder, jnp.asarray(np.concatenate([encoded.h, np.tile(q, (5, 1))], axis=1)))
    ys, u = np.asarray(ys), q
    for hop in QA.hops:
        query, memory, score = map(np.asarray, hop.attention)
        scores = np.tanh(ys @ memory + u @ query) @ score
        weights = np.exp(scores) / np.exp(scores).sum()
        u = np.tanh(u + weights @ ys @ np.asarray(hop.update.kernel) + np.asarray(hop.update.bias))
    story = memory_qa.Story(sentences, jnp.full(5, 4), question, jnp.array(3))
    output = memory_qa.answer(QA, story)
    np.testing.assert_allclose(output.attention_weights[-1], weights, rtol=1e-10)
    np.testing.assert_allclose(output.logits, u @ np.asarray(QA.head.kernel) + QA.head.bias, rtol=1e-10)


def test_an_empty_sentence_is_ignored_wherever_it_stands():
    sentences = jax.random.randint(KEY, (4, 3), 0, 9)
    question = jnp.array([1, 2]), jnp.array(2)
    with_empty = memory_qa.answer(QA, memory_qa.Story(sentences, jnp.array([4, 0, 3]), *question))
    without = memory_qa.answer(QA, memory_qa.Story(sentences[:, np.array([0, 2])], jnp.array([4, 3]), *question))
    np.testing.assert_allclose(with_empty.logits, without.logits, rtol=1e-10)
    assert not with_empty.attention_weights[:, 1].any()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_every_model_runs_in_every_dtype(dtype):
    """Every parameter has the dtype; every gradient is finite, and not all of them are 0."""
    lengths = jnp.array([5, 3])
    tokens = TOKENS[:5, :2] % 8
    story = memory_qa.Story(tokens[None, :, :], jnp.ones((5, 2), jnp.int32), tokens[:2], jnp.array([2, 2]))
    cases = [
        (classifier.init_classifier(KEY, 8, 3, hidden_size=4, use_attention=True, dtype=dtype), classify_all),
        (lm.init_language_model(KEY, 8, embedding_size=4, hidden_size=4, dtype=dtype), sampled_loss),
        (
            seq2seq.init_seq2seq(KEY, 8, 8, embedding_size=4, hidden_size=4, dtype=dtype),
            lambda params, tokens, lengths: seq2seq.teacher_force(params, tokens, lengths, tokens).logits,
        ),
        (
            memory_qa.init_memory_qa(KEY, 8, 3, embedding_size=4, hidden_size=4, dtype=dtype),
            lambda params, tokens, lengths: memory_qa.answer(params, story).logits,
        ),
    ]
    for params, run in cases:
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
        gradient = jax.jit(jax.grad(lambda params, run=run: run(params, tokens, lengths).astype(jnp.float32).sum()))(
            params
        )
        assert all(np.isfinite(leaf.astype(jnp.float32)).all() for leaf in jax.tree.leaves(gradient))
        assert any(leaf.any() for leaf in jax.tree.leaves(gradient))


def classify_all(params, tokens, lengths):
    logits = [classifier.classify(params, tokens, lengths, pooling=pooling).logits for pooling in classifier.POOLINGS]
    assert {part.dtype for part in logits} == {params.head.kernel.dtype}
    return jnp.stack(logits)


def sampled_loss(params, tokens, lengths):
    return lm.sampled_softmax_loss(KEY, params, lm.apply(params, None, tokens).ys, tokens, jnp.zeros(8), 64)


def test_dropout_of_each_model_needs_a_key():
    params = SEQ2SEQ[True]
    plain = seq2seq.teacher_force(params, SOURCE, SOURCE_LENGTHS, TARGET).logits
    dropped = seq2seq.teacher_force(params, SOURCE, SOURCE_LENGTHS, TARGET, key=KEY, dropout_rate=0.5).logits
    np.testing.assert_array_equal(
        plain, seq2seq.teacher_force(params, SOURCE, SOURCE_LENGTHS, TARGET, dropout_rate=0.5).logits
    )
    assert not np.allclose(plain, dropped)
    story = memory_qa.Story(SOURCE[:4, :], jnp.full(3, 4), SOURCE[:2, 0], jnp.array(2))
    assert not np.allclose(
        memory_qa.answer(QA, story).logits, memory_qa.answer(QA, story, key=KEY, dropout_rate=0.5).logits
    )


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="num_layers: got 0, want at least 1"):
        lm.init_language_model(KEY, 8, num_layers=0)
    with pytest.raises(ValueError, match="num_hops: got 0, want at least 1"):
        memory_qa.init_memory_qa(KEY, 8, 3, num_hops=0)
    params = classifier.init_classifier(KEY, 8, 3, dtype=jnp.float64)
    with pytest.raises(ValueError, match=r'pooling: got "attention" and parameters without it'):
        classifier.classify(params, TOKENS % 8, LENGTHS, pooling="attention")


FORECASTERS = {
    use_decoder: forecaster.init_forecaster(KEY, 3, 2, 4, 3, hidden_size=5, use_decoder=use_decoder, **FLOAT64)
    for use_decoder in (True, False)
}


@pytest.mark.parametrize("use_decoder", [True, False])
def test_an_untrained_forecaster_returns_the_naive_forecast(use_decoder):
    past, future, naive = (jax.random.normal(KEY, shape, jnp.float64) for shape in ((6, 2, 3), (4, 2, 2), (4, 2)))
    output = forecaster.forecast(FORECASTERS[use_decoder], past, future, naive)
    np.testing.assert_array_equal(output, np.repeat(naive[..., None], 3, axis=-1))


@pytest.mark.parametrize("use_decoder", [True, False])
def test_quantiles_ascend_and_a_batch_equals_each_series_by_itself(use_decoder):
    params = jax.tree.map(lambda leaf: jax.random.normal(KEY, leaf.shape, leaf.dtype), FORECASTERS[use_decoder])
    past, future, naive = (jax.random.normal(KEY, shape, jnp.float64) for shape in ((6, 2, 3), (4, 2, 2), (4, 2)))
    output = forecaster.forecast(params, past, future, naive)
    assert output.shape == (4, 2, 3)
    assert (jnp.diff(output, axis=-1) >= 0).all()
    assert (jnp.diff(output, axis=-1) > 0).any()
    for row in range(2):
        alone = forecaster.forecast(params, past[:, row], future[:, row], naive[:, row])
        np.testing.assert_allclose(output[:, row], alone, rtol=1e-10)
    assert not np.allclose(forecaster.forecast(params, past + 1, future, naive), output)
    other_future = forecaster.forecast(params, past, future + 1, naive)
    assert np.allclose(other_future, output) != use_decoder


def test_a_decoder_reads_the_future_step_by_step_and_a_direct_head_at_once():
    """A change of the known future at one step leaves the forecast of the steps before it alone."""
    params = jax.tree.map(lambda leaf: jax.random.normal(KEY, leaf.shape, leaf.dtype), FORECASTERS[True])
    past, future, naive = (jax.random.normal(KEY, shape, jnp.float64) for shape in ((6, 3), (4, 2), (4,)))
    output = forecaster.forecast(params, past, future, naive)
    other = forecaster.forecast(params, past, future.at[2].add(1.0), naive)
    np.testing.assert_allclose(output[:2], other[:2], rtol=1e-12)
    assert not np.allclose(output[2:], other[2:])
    direct = jax.tree.map(lambda leaf: jax.random.normal(KEY, leaf.shape, leaf.dtype), FORECASTERS[False])
    state, _ = lj.lstm_stack(direct.encoder, past)
    out = (state[0].h @ direct.head.kernel + direct.head.bias).reshape(4, 3)
    want = naive[:, None] + jnp.sort(out, axis=-1)
    np.testing.assert_allclose(forecaster.forecast(direct, past, future, naive), want, rtol=1e-10)


CTC = {
    frame_stack: ctc_recognizer.init_ctc_recognizer(KEY, 4, 5, hidden_size=3, frame_stack=frame_stack, **FLOAT64)
    for frame_stack in (1, 2, 3)
}


@pytest.mark.parametrize("frame_stack", CTC)
def test_a_recognizer_concatenates_frames_and_ignores_padding(frame_stack):
    frames = jax.random.normal(KEY, (7, 2, 4), jnp.float64)
    recognize = partial(ctc_recognizer.recognize, CTC[frame_stack], frame_stack=frame_stack)
    logits, step_lengths = recognize(frames, jnp.array([7, 5]))
    np.testing.assert_array_equal(step_lengths, np.ceil(np.array([7, 5]) / frame_stack))
    for row, length in enumerate([7, 5]):
        num_steps = -(-length // frame_stack)
        padded = np.zeros((num_steps * frame_stack, 4))
        padded[:length] = frames[:length, row]
        _, ys = lj.lstm_stack(CTC[frame_stack].layers, jnp.asarray(padded.reshape(num_steps, -1)))
        want = np.asarray(ys) @ np.asarray(CTC[frame_stack].head.kernel)
        np.testing.assert_allclose(logits[:num_steps, row], want, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("num_features", "frame_stack"), [(2, 2), (3, 2), (8, 2), (9, 2), (4, 1), (4, 3), (4, 0)])
def test_a_recognizer_names_frames_of_another_size(num_features, frame_stack):
    """Half the features would fit a stack of twice the frames; more features than the layer reads fit no stack."""
    frames, lengths = jnp.zeros((7, 2, num_features)), jnp.array([7, 5])
    message = rf"frames: got {num_features} features with frame_stack={frame_stack}, want .* = 8"
    with pytest.raises(ValueError, match=message):
        ctc_recognizer.recognize(CTC[2], frames, lengths, frame_stack=frame_stack)
