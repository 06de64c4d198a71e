"""Whole models: encoder, residual stack, pooling and head."""

from lru.models.classifiers import SequenceClassifier, SequenceMatcher, SequenceModel
from lru.models.language import LanguageModel

__all__ = ["LanguageModel", "SequenceClassifier", "SequenceMatcher", "SequenceModel"]
