"""Layers, one file each, and the call that all of them share."""
