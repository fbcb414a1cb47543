"""Synthetic texts for examples that run without a file: reviews with negations, numbers in words, stories."""

import random

from common.stories import Question
from common.texts import LabeledTexts

POSITIVE_WORDS = "gripping", "funny", "moving", "clever", "fine"
NEGATIVE_WORDS = "dull", "clumsy", "loud", "hollow", "weak"
WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
ONES = [*WORDS.split(), "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
PEOPLE = "ana", "ben", "cleo", "dev"
PLACES = "kitchen", "garden", "hall", "office", "cellar"


def reviews(count: int, seed: int) -> LabeledTexts:
    """Makes labeled reviews whose sentiment depends on negations and on the clause after "but", not on word counts.

    Args:
        count: number of reviews.
        seed: seed of the random choices.
    """
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        label = rng.random() < 0.5

        def clause(positive: bool) -> str:
            """Makes a clause of this sentiment."""
            negated = rng.random() < 0.5
            word = rng.choice(POSITIVE_WORDS if positive != negated else NEGATIVE_WORDS)
            return f"the {rng.choice(('plot', 'cast', 'film', 'music'))} was {'not ' * negated}{word}"

        text = clause(label) if rng.random() < 0.4 else f"{clause(not label)} , but {clause(label)}"
        rows.append((f"{text} .", "positive" if label else "negative"))
    texts, labels = zip(*rows, strict=True)
    return LabeledTexts(list(texts), list(labels), [f"synthetic {k}" for k in range(count)])


def in_words(number: int) -> str:
    """Spells a number below a million: 12345 is twelve thousand three hundred and forty five."""
    if number >= 1000:
        rest = f" {in_words(number % 1000)}" if number % 1000 else ""
        return f"{in_words(number // 1000)} thousand{rest}"
    if number >= 100:
        rest = f" and {in_words(number % 100)}" if number % 100 else ""
        return f"{in_words(number // 100)} hundred{rest}"
    if number >= 20:
        return " ".join([TENS[number // 10 - 2], *([ONES[number % 10]] if number % 10 else [])])
    return ONES[number]


def numbers(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Makes random numbers below a million, in words and in digits.

    Args:
        count: number of pairs.
        seed: seed of the random choices.
    Returns:
        (words, digits): the numbers in words, and their digits separated by blanks.
    """
    rng = random.Random(seed)
    values = [rng.randrange(10 ** rng.randrange(1, 7)) for _ in range(count)]
    return [in_words(value) for value in values], [" ".join(str(value)) for value in values]


def questions(count: int, seed: int) -> list[Question]:
    """Makes stories of people who go to places, with the question where one of them is.

    Args:
        count: number of questions, each with its own story.
        seed: seed of the random choices.
    """
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        moves = [(rng.choice(PEOPLE), rng.choice(PLACES)) for _ in range(rng.randrange(2, 9))]
        story = [f"{person} {rng.choice(('went', 'walked', 'ran'))} to the {place}" for person, place in moves]
        person = rng.choice(moves)[0]
        rows.append(Question(story, f"where is {person}", dict(moves)[person]))
    return rows
