"""Layers, recurrent cells, and the call interface that all layers share."""
