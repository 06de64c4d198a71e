"""Analysis and reduction of trained models; see `lru.spectrum` and `lru.reduce`."""
