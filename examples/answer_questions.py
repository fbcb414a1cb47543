"""Answers questions about stories: LSTMs over words and sentences, attention from the question to the story.

    python examples/answer_questions.py                              # synthetic stories: who is where
    python examples/answer_questions.py --data tasks_1-20_v1-2/en    # bAbI: one model for each task, 20 tasks
    python examples/answer_questions.py --data qa1_train.txt --test qa1_test.txt

In a file each line has a number, a blank and a sentence, or a question, a tab and its answer; the number 1 begins a
new story. A folder has files ..._train.txt and ..._test.txt. Published for an LSTM, the mean over 20 tasks of 1,000
questions each: 49 % (Weston et al. 2015); expect 66 %, from 8 % (paths) to 99.9 % (one fact), a minute or two each. The
data is the folder of 1,000 questions of https://research.facebook.com/downloads/babi

The model of one task in --save, in three lines of Python in the folder examples:

    import answer_questions
    model = answer_questions.load("runs/stories", task="synthetic")
    print(answer_questions.answer(model, ["ana went to the hall", "ben ran to the garden"], "where is ana"))
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import pictures, results, saved, stories
from common.options import Count, Rate, new_parser, parse

from lstm_jax import training
from lstm_jax.models import memory_qa
from lstm_jax.training import metrics

BATCH_SIZE = 32
PATIENCE = 12
LEARNING_RATE = 3e-3


class Settings(NamedTuple):
    """Settings of the model and its training; --set NAME=VALUE changes one."""

    hidden: Count = 64  # units, and size of the embedding
    num_hops: Count = 2  # times that the story is attended to
    dropout: Rate = 0.2
    epochs: Count = 60  # at most
    steps: Count | None = None  # instead of epochs
    encoding: str = "utf-8"


def to_story(batch: training.RaggedBatch) -> memory_qa.Story:
    """Converts a batch ``[S, B, 1 + W]``, with the number of words before the words, to a ``Story``."""
    sentences, question = batch.xs, batch.labels["question"]
    return memory_qa.Story(
        jnp.moveaxis(sentences[..., 1:], -1, 0), sentences[..., 0], question[:, 1:].T, question[:, 0]
    )


def make_loss(rate: float) -> Any:
    """Makes the cross-entropy of the answer, with a dropout rate."""

    @training.stateless
    def loss(params: memory_qa.MemoryQAParams, batch: training.RaggedBatch, key: Any) -> tuple[jax.Array, dict]:
        """Computes the loss of a batch and its metrics; a key enables dropout."""
        logits = memory_qa.answer(params, to_story(batch), key=key, dropout_rate=rate).logits
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels["answer"])
        accuracy = metrics.accuracy(logits, batch.labels["answer"], batch.row_mask)
        return jnp.mean(nats, where=batch.row_mask), {"loss": metrics.mean(nats, batch.row_mask), "accuracy": accuracy}

    return loss


def train(task: stories.Task, encoding: stories.Encoding, options: argparse.Namespace) -> saved.Model:
    """Trains a model for one task and returns the best on a held-out tenth of the training questions."""
    keys = jax.random.split(jax.random.key(options.seed))
    split = len(task.train) * 9 // 10
    sizes: dict[str, Any] = {"vocab_size": encoding.tokenizer.get_vocab_size(), "num_answers": len(encoding.answers)}
    sizes |= {"embedding_size": options.hidden, "hidden_size": options.hidden, "num_hops": options.num_hops}
    data = stories.make_batches(task.train[:split], encoding, BATCH_SIZE, options.seed)
    held_out = stories.make_batches(task.train[split:], encoding, BATCH_SIZE, 0)
    fitted = training.fit(
        make_loss(options.dropout),
        memory_qa.init_memory_qa(keys[0], **sizes),
        data,
        training.adam(LEARNING_RATE),
        steps=options.steps or options.epochs * len(data),
        key=keys[1],
        validation=training.Validation(held_out, len(data), patience=PATIENCE),
    )
    notes = {"sizes": sizes, "answers": encoding.answers, "max_words": encoding.max_words}
    return saved.Model(fitted.params, notes, {"tokenizer": encoding.tokenizer})


def load(folder: str | Path, task: str) -> saved.Model:
    """Loads the model of one task that --save wrote."""
    return saved.load(Path(folder) / task, "answer_questions", memory_qa.init_memory_qa)


def encoding_of(model: saved.Model) -> stories.Encoding:
    """Returns the vocabulary and the answers of a model."""
    return stories.Encoding(model.tokenizers["tokenizer"], model.notes["answers"], model.notes["max_words"])


def answer(model: saved.Model, story: list[str], question: str, picture: Path | None = None, right: str = "") -> str:
    """Answers a question about a story; plots the attention of each hop to each sentence if there is a picture path."""
    example = stories.Question([stories.plain(sentence) for sentence in story], stories.plain(question), right)
    batch = stories.make_batches([example], encoding_of(model), 1, 0)[0]
    output = memory_qa.answer(model.params, to_story(batch))
    predicted = model.notes["answers"][int(output.logits[0].argmax())]
    if picture:
        weights, title = output.attention_weights[:, :, 0].T, f"{question}? {predicted} (right: {right})"
        hops, size = [f"hop {k + 1}" for k in range(weights.shape[1])], (7, 1.2 + 0.3 * len(story))
        pictures.plot_attention(weights, story, hops, picture, figsize=size, title=title)
    return predicted


def main(arguments: list[str] | None = None) -> float:
    """Trains a model per task, reports and plots; returns the mean accuracy on the test questions."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder of tasks, or a file of training stories")
    parser.add_argument("--test", type=Path, help="file of test stories")
    options = parse(parser, arguments, __file__, Settings, smoke={"steps": 3, "hidden": 16})
    tasks = stories.read_tasks(options)
    encoding = stories.make_encoding(tasks)
    accuracies, naive = {}, []
    with results.Timer() as timer:
        for task in tasks:
            model = load(options.load, task.name) if options.load else train(task, encoding, options)
            saved.save(options.save and options.save / task.name, options.example, model)
            tests = stories.make_batches(task.test, encoding_of(model), BATCH_SIZE, 0)
            accuracies[task.name] = results.evaluate(make_loss(0.0), model.params, tests)["accuracy"]
            usual = Counter(question.answer for question in task.train).most_common(1)[0][0]
            naive.append(float(np.mean([question.answer == usual for question in task.test])))
            print(f"{task.name:40} {accuracies[task.name]:6.1%}, always {usual!r} {naive[-1]:6.1%}")
    measured = {"mean accuracy": float(np.mean(list(accuracies.values()))), **accuracies}
    usual_accuracy = float(np.mean(naive))
    print(f"{'mean':40} {measured['mean accuracy']:6.1%}, the usual answer {usual_accuracy:6.1%}")
    answer(model, *tasks[-1].test[0][:2], options.picture, tasks[-1].test[0].answer)
    notes = f"{len(tasks)} models, each of so many parameters"
    results.record(options, model.params, timer.seconds, measured, {"usual answer": usual_accuracy}, notes)
    return measured["mean accuracy"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as programs:  # tasks of one shape are compiled once
        jax.config.update("jax_compilation_cache_dir", programs)
        main()
