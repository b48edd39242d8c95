"""The clock of the benchmarks: BENCHMARK_CLOCK=cpu counts this thread's own seconds on a processor, which a busy machine needs.

Another program that takes the processor away then adds nothing, though it still takes caches and memory's width. One thread only.
"""

import os
import time

seconds = time.thread_time if os.environ.get("BENCHMARK_CLOCK") == "cpu" else time.perf_counter
