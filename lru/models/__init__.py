"""Complete models: classifiers of sequences and of pairs of sequences, and language models."""

from lru.models.classifiers import SequenceClassifier, SequenceMatcher, SequenceModel
from lru.models.language import LanguageModel

__all__ = ["LanguageModel", "SequenceClassifier", "SequenceMatcher", "SequenceModel"]
