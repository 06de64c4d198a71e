"""Functions of arrays, without Flax modules: the linear recurrence, initializers and helpers."""
