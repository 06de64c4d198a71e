"""What the eigenvalues of a trained model say; `lru.spectrum` has all of it."""
