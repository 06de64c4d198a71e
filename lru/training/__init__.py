"""Trains and evaluates the model that a config describes.

`loop.train_and_evaluate` runs an `Experiment`: the data set and the model that `build` makes from a
config, the task that joins them, and the `optimizer`. `metrics` defines the losses, and `step` the
steps of training and evaluation. `run_files`, `checkpoint` and `writers` write the run's files, and
`record` makes the content of `record.json`. `processes` joins several processes in one run.
`recovery` compares the files with the newest readable checkpoint, and `comparing` compares several
runs.
"""
