"""A map that runs compiled work on several cores: threads in the place of BLAS's own, which gain little on these sizes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_info, threadpool_limits

PARALLEL = 100  # least matrix size for which it pays


@contextmanager
def share_work(size: int) -> Iterator[tuple[Callable[..., list[Any]], int]]:
    """A map over jobs on matrices of that size, and how many it takes at once: as many as BLAS may use threads."""
    count = 1
    if size >= PARALLEL:
        count = max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
    if count == 1:
        yield lambda function, jobs: [function(job) for job in jobs], 1
        return
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(count) as pool:
        yield lambda function, jobs: list(pool.map(function, jobs)), count
