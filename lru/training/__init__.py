"""Training: from a config to a record.

`loop.train_and_evaluate` runs an `Experiment`: the data set and the model that `build` makes from a
config, the task that joins them, and the `optimizer`. `step` defines the loss and the update of one
step. `run_files`, `checkpoint`, `writers` and `record` write the run's files; `processes` joins
several processes in one run; `recovery` compares the files with the newest checkpoint.
"""
