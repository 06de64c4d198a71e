"""Measures programs side by side: `python scripts/benchmark.py model --shapes=listops,text`.

Each candidate runs in its own process. The candidates take turns, one measurement in each round, so
other load on the machine affects all of them alike. The table shows the median, minimum and maximum
time over the rounds. `times the first` is the time divided by the first candidate's time in the
same round, as a median over the rounds; it is 1 if the first candidate was not run. `per second` is
the number of calls, tokens or gigabytes per second. `temporaries` is the memory that XLA allocates
for the compiled program in addition to its arguments and results. `peak` is the largest resident
memory of the process so far, including Python and the compiler. `compile` is the time that tracing
and XLA take without a cache. All candidates except "Appendix A" are compiled with the options of
training. "Appendix A" is compiled with JAX's defaults, because the options of training are meant
for rematerialization and would cost it memory without saving time.
"""

import functools
import sys

from benchmarks.measure import main

from lru.command_line import run

if __name__ == "__main__":
    sys.exit(run(functools.partial(main, description=__doc__)))
