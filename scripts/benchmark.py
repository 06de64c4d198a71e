"""Measures programs side by side: `python scripts/benchmark.py model --shapes=listops,text`.

Every candidate runs in a process of its own, and they take turns: a call each, round after round,
so that whatever else the machine does hits all alike. Reported are medians over the rounds, with
the least and the most, and ratios that are formed within a round. `temporaries` is what XLA lays
out for the compiled program beside its arguments and results; `peak` is the process' largest
resident memory up to then, Python and compiler included; `compile` is tracing and XLA, nothing
cached. All are compiled as training is, but "Appendix A" as JAX does it by itself: with training's
options, meant for rematerialisation, it needs more memory and no less time.
"""

import functools
import sys

from benchmarks.measure import main

from lru.command_line import run

if __name__ == "__main__":
    sys.exit(run(functools.partial(main, description=__doc__)))
