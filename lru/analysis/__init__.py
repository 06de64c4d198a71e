"""Analysis and reduction of trained models, for `lru.spectrum` and `lru.reduce`."""
