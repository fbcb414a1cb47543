"""Answers questions about stories: LSTMs over words and sentences, attention from the question to the story.

    python examples/answer_questions.py                              # made-up stories: who is where
    python examples/answer_questions.py --data tasks_1-20_v1-2/en    # bAbI: one model for each task, 20 tasks
    python examples/answer_questions.py --data qa1_train.txt --test qa1_test.txt

In a file each line has a number, a blank and a sentence, or a question, a tab and its answer; the number 1 begins a
new story. A folder has files ..._train.txt and ..._test.txt. Published for an LSTM, the mean over 20 tasks of 1,000
questions each: 49 % (Weston et al. 2015); expect 66 %, from 8 % (paths) to 99.9 % (one fact), a minute or two each. The
data is the folder of 1,000 questions of
https://research.facebook.com/downloads/babi
"""

import argparse
import random
import re
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import results, saved, texts
from tokenizers import Tokenizer

from lstm_jax import training
from lstm_jax.models import memory_qa
from lstm_jax.training import metrics

EXAMPLE = "answer_questions"
HIDDEN = 64
LOOKS = 2
BATCH = 32
EPOCHS = 60
PATIENCE = 12
LEARNING_RATE = 3e-3
DROPOUT = 0.2
RECENT = 60
"""sentences before a question that are read, at most"""


class Question(NamedTuple):
    """A question, what was told before it, and its answer."""

    story: list[str]
    question: str
    answer: str


class Task(NamedTuple):
    """Questions of one kind."""

    name: str
    train: list[Question]
    test: list[Question]


def read_questions(option: str, path: Path, encoding: str = "utf-8") -> list[Question]:
    """A file of stories."""
    found: list[Question] = []
    story: list[str] = []
    for number, line in enumerate(texts.read_lines(option, path, encoding), start=1):
        match = re.match(r"(\d+) (.+)", line)
        if match is None:
            raise SystemExit(f"{option}: {path}, line {number}: got {line!r}, want a number, a blank and a sentence")
        if match[1] == "1":
            story = []
        sentence, *rest = match[2].split("\t")
        here = f"{option}: {path}, line {number}"
        if not plain(sentence):
            raise SystemExit(f"{here}: got no word, want a sentence")
        if not rest and sentence.rstrip().endswith("?"):
            raise SystemExit(f"{here}: got a question alone, want a tab and its answer behind it")
        if not rest:
            story.append(plain(sentence))
            continue
        if not story or not rest[0].strip():
            raise SystemExit(f"{here}: want a question after a sentence of its story, a tab, and an answer")
        found.append(Question(story[-RECENT:], plain(sentence), rest[0].strip()))
    if not found:
        raise SystemExit(f"{option}: {path} has no question, want lines of a number, a question, a tab and its answer")
    return found


def plain(sentence: str) -> str:
    """Words divided by blanks, in lower case, without marks."""
    return " ".join(re.findall(r"[\w'-]+", sentence.lower()))


def synthetic(count: int, seed: int) -> list[Question]:
    """People go to places; where is one of them?"""
    draw = random.Random(seed)
    people, places = ("ana", "ben", "cleo", "dev"), ("kitchen", "garden", "hall", "office", "cellar")
    found = []
    for _ in range(count):
        moves = [(draw.choice(people), draw.choice(places)) for _ in range(draw.randrange(2, 9))]
        story = [f"{who} {draw.choice(('went', 'walked', 'ran'))} to the {where}" for who, where in moves]
        who = draw.choice(moves)[0]
        found.append(Question(story, f"where is {who}", dict(moves)[who]))
    return found


def read_tasks(options: argparse.Namespace) -> list[Task]:
    """From a folder, from two files, or made up."""
    if options.data is None:
        return [Task("made up", synthetic(2000, 0), synthetic(500, 1))]
    if options.data.is_file():
        if options.test is None:
            raise SystemExit("--data: got one file and no --test, want a file for it")
        files = [(options.data, options.test)]
    else:
        training_files = options.data.glob("*_train.txt")
        files = [(path, path.with_name(path.name.replace("_train.txt", "_test.txt"))) for path in training_files]
        files.sort(key=lambda pair: [int(part) for part in re.findall(r"\d+", pair[0].name)])
    if not files:
        raise SystemExit(f"--data: {options.data} has no files ..._train.txt")
    read = partial(read_questions, encoding=options.encoding)
    return [
        Task(train.name.removesuffix("_train.txt"), read("--data", train), read("--test", test))
        for train, test in files
    ]


class Codes(NamedTuple):
    """What the numbers mean, the same for all tasks."""

    words: Tokenizer
    answers: list[str]
    longest: int
    """words of a sentence"""


def codes_of(tasks: list[Task]) -> Codes:
    """From the training questions."""
    questions = [one for task in tasks for one in task.train]
    told = [line for one in questions for line in (*one.story, one.question)]
    answers = sorted({one.answer for one in questions})
    return Codes(texts.word_codes(told, 1), answers, max(len(line.split()) for line in told))


def batches(questions: list[Question], codes: Codes, batch: int, seed: int) -> training.Bucketed:
    """Stories by their number of sentences; a sentence is its number of words and then the words.

    An answer that no training question has is -1, which nobody gives.
    """
    number = {answer: place for place, answer in enumerate(codes.answers)}

    def lines(some: list[str]) -> np.ndarray:
        rows = np.zeros((len(some), codes.longest + 1), np.int32)
        for row, words in zip(rows, texts.encode(codes.words, some), strict=True):
            words = words[: codes.longest]
            row[: len(words) + 1] = [len(words), *words]
        return rows

    labels = {
        "question": lines([one.question for one in questions]),
        "answer": np.array([number.get(one.answer, -1) for one in questions], np.int32),
    }
    told = [lines(one.story) for one in questions]
    return training.Bucketed(told, labels, batch, buckets=1, multiple=10, seed=seed)


def as_story(batch: training.RaggedBatch) -> memory_qa.Story:
    """Of a batch ``[S, B, 1 + W]``."""
    told, asked = batch.xs, batch.labels["question"]
    return memory_qa.Story(jnp.moveaxis(told[..., 1:], -1, 0), told[..., 0], asked[:, 1:].T, asked[:, 0])


def make_loss(rate: float) -> Any:
    """Cross-entropy of the answer."""

    @training.stateless
    def loss(
        params: memory_qa.MemoryQAParams, batch: training.RaggedBatch, key: Any
    ) -> tuple[jax.Array, dict[str, Any]]:
        logits = memory_qa.answer(params, as_story(batch), key=key, dropout_rate=rate).logits
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels["answer"])
        return jnp.mean(nats, where=batch.real), {
            "loss": metrics.mean(nats, batch.real),
            "accuracy": metrics.accuracy(logits, batch.labels["answer"], batch.real),
        }

    return loss


def train(task: Task, codes: Codes, options: argparse.Namespace) -> training.FitResult:
    """The parameters that were best on a tenth of the training questions."""
    keys = jax.random.split(jax.random.key(options.seed))
    split = len(task.train) * 9 // 10
    params = memory_qa.init_memory_qa(keys[0], **sizes(codes, options))
    data = batches(task.train[:split], codes, BATCH, options.seed)
    held_out = batches(task.train[split:], codes, BATCH, 0)
    return training.fit(
        make_loss(options.dropout),
        params,
        data,
        training.adam(LEARNING_RATE),
        steps=options.steps or options.epochs * len(data),
        key=keys[1],
        validation=training.Validation(held_out, len(data), patience=PATIENCE),
    )


def sizes(codes: Codes, options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``init_memory_qa``."""
    return {
        "vocab_size": codes.words.get_vocab_size(),
        "num_answers": len(codes.answers),
        "embedding_size": options.hidden,
        "hidden_size": options.hidden,
        "num_hops": options.looks,
    }


def draw_looks(params: Any, question: Question, codes: Codes, path: Path) -> None:
    """A picture: a story, and how much each look at it weighed each sentence."""
    from matplotlib.figure import Figure

    batch = batches([question], codes, 1, 0)[0]
    found = memory_qa.answer(params, as_story(batch))
    figure = Figure(figsize=(7, 1.2 + 0.3 * len(question.story)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(found.weights[:, :, 0].T, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(question.story)), question.story)
    axes.set_xticks(range(len(found.weights)), [f"look {look}" for look in range(1, len(found.weights) + 1)])
    answer = codes.answers[int(found.logits[0].argmax())]
    axes.set_title(f"{question.question}? {answer} (right: {question.answer})")
    figure.colorbar(image, label="attention")
    figure.savefig(path, dpi=120)


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of tasks, or a file of training stories")
    parser.add_argument("--test", type=Path, help="a file of test stories")
    parser.add_argument("--encoding", default="utf-8", help="of the files (%(default)s)")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: test only")
    parser.add_argument("--hidden", type=results.whole, default=HIDDEN, help="units and embedding (%(default)s)")
    parser.add_argument("--looks", type=results.whole, default=LOOKS, help="at the story (%(default)s)")
    parser.add_argument("--dropout", type=results.rate, default=DROPOUT, help="(%(default)s)")
    parser.add_argument("--epochs", type=results.whole, default=EPOCHS, help="at most (%(default)s)")
    parser.add_argument("--steps", type=results.whole, help="instead of --epochs")
    parser.add_argument("--picture", type=Path, default=Path("answer_questions.png"), help="(%(default)s)")
    options = results.parse(parser, arguments, __file__)
    if options.smoke:
        options.steps, options.hidden = 3, 16
    return options


def main(arguments: list[str] | None = None) -> float:
    """Trains a model a task, reports, draws; returns the mean accuracy on the test questions."""
    options = parse_options(arguments)
    tasks = read_tasks(options)
    codes = codes_of(tasks)
    began = time.monotonic()
    right, most = {}, {}
    for task in tasks:
        if options.load:
            init, folder = memory_qa.init_memory_qa, options.load / task.name
            params, notes, (words,) = saved.load(folder, EXAMPLE, init, "tokenizer")
            codes = Codes(words, notes["answers"], notes["longest"])
        else:
            params = train(task, codes, options).params
        if options.save:
            notes = {"answers": codes.answers, "longest": codes.longest, "sizes": sizes(codes, options)}
            saved.save(options.save / task.name, EXAMPLE, params, notes, tokenizer=codes.words)
        tests = batches(task.test, codes, BATCH, 0)
        right[task.name] = training.make_evaluate(make_loss(0.0))(params, tests)["accuracy"]
        usual = Counter(one.answer for one in task.train).most_common(1)[0][0]
        most[task.name] = float(np.mean([one.answer == usual for one in task.test]))
        print(f"{task.name:40} {right[task.name]:6.1%}, always {usual!r} {most[task.name]:6.1%}")
    mean, naive = (float(np.mean(list(column.values()))) for column in (right, most))
    print(f"{'mean':40} {mean:6.1%}, the usual answer {naive:6.1%}")
    draw_looks(params, tasks[-1].test[0], codes, options.picture)
    results.record(
        options,
        params=params,
        seconds=time.monotonic() - began,
        measured={"mean accuracy": mean, **right},
        naive={"usual answer": naive},
        notes=f"{len(tasks)} models, each of so many parameters",
    )
    return mean


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as programs:  # tasks of one shape are compiled once
        jax.config.update("jax_compilation_cache_dir", programs)
        main()
