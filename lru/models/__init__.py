"""Complete models of sequences: classifiers, predictors, matchers of pairs, language models."""

from lru.models.classifiers import SequenceClassifier, SequenceMatcher, SequenceModel
from lru.models.language import LanguageModel
from lru.models.predictors import SequencePredictor, SequenceTagger

__all__ = [
    "LanguageModel", "SequenceClassifier", "SequenceMatcher", "SequenceModel", "SequencePredictor",
    "SequenceTagger",
]  # fmt: skip
