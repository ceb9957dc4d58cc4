"""How work grows with the size of its input, whatever the machine's speed."""

import time
from collections.abc import Callable


def is_linear(work: Callable[[int], object], size: int) -> bool:
    """Whether 16 times the size takes about 16 times the work, and not the 256 times of its square.

    Only this thread's own time counts, and one calm measurement of ten is enough: a machine that is
    slow or busy disturbs both sizes, or some of the ratios, but not all of them.
    """

    def seconds(n: int) -> float:
        start = time.thread_time()
        work(n)
        return max(time.thread_time() - start, 1e-9)

    work(size)  # what is set up once is set up here
    return any(seconds(16 * size) < 64 * seconds(size) for _ in range(10))
