"""Layers, one per file, and the call that they share."""
