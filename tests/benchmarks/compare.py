"""What the benchmarks share: two ways timed in alternation, so that a busy machine slows both alike."""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # mmutils, from wherever a benchmark is started


def seconds(work: Callable[[], object]) -> float:
    """The wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(name: str, baseline: Callable[[], object], ours: Callable[[], object], repeats: int = 5) -> float:
    """Median over pairs of baseline's time divided by ours: above 1, ours is faster. Both are called once before."""
    baseline(), ours()
    pairs = [(seconds(baseline), seconds(ours)) for _ in range(repeats)]
    ratios = sorted(first / second for first, second in pairs)
    middle = [statistics.median(side) for side in zip(*pairs, strict=True)]
    print(
        f"{name}: baseline {middle[0]:.3f} s, ours {middle[1]:.3f} s; {statistics.median(ratios):.2f} times as fast "
        f"(of {repeats} pairs {ratios[0]:.2f} to {ratios[-1]:.2f})",
        flush=True,
    )
    return statistics.median(ratios)
