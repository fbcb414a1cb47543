"""Naive classifiers of texts."""

from common.texts import LabeledTexts


def logistic_regression(train: LabeledTexts, test: LabeledTexts) -> float:
    """The accuracy of a logistic regression on counts of words and of pairs of words, by scikit-learn."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        CountVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), binary=True), LogisticRegression(max_iter=1000)
    )
    return float(model.fit(train.texts, train.labels).score(test.texts, test.labels))
