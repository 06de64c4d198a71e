"""Analysis and reduction of trained models; `lru.spectrum` and `lru.reduce` export it."""
