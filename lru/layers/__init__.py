"""Layers, one per file, and the call interface that they share."""
