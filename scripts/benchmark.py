"""Measures programs side by side: `python scripts/benchmark.py model --shapes=listops,text`.

Each candidate runs in its own process. The candidates take turns, one call in each round, so other
load on the machine affects all of them alike. The table shows the median over the rounds, the
minimum and maximum, and ratios computed within each round. `temporaries` is the memory that XLA
allocates for the compiled program beside its arguments and results. `peak` is the largest resident
memory of the process so far, Python and the compiler included. `compile` is the time of tracing and
XLA, without a cache. All candidates are compiled with the options of training, except "Appendix A",
which has JAX's defaults: the options of training, meant for rematerialisation, cost it memory and
save no time.
"""

import functools
import sys

from benchmarks.measure import main

from lru.command_line import run

if __name__ == "__main__":
    sys.exit(run(functools.partial(main, description=__doc__)))
