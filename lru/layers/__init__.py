"""Layers and recurrent cells."""
