"""Functions, not Flax modules: the linear recurrence, initializers and helpers."""
