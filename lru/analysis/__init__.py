"""Analysis of the eigenvalues of trained models; `lru.spectrum` exports its functions."""
