"""Same input, same bytes: seeds and threads."""

import hashlib
import os
import random

THREADS = "FLAWLINE_THREADS"
# Read once by the libraries that compute, when they are loaded: so they must stand in a stage's environment.
_LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from any parts (names, numbers), the same on every machine and Python version."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stage_threads(configured: int) -> int:
    """Threads of a stage: FLAWLINE_THREADS, else the number that params.yaml says; never the machine's."""
    return int(os.environ.get(THREADS) or configured)


def thread_environment(threads: int | None) -> dict[str, str]:
    """What fixes the number of threads of a new process; empty for None."""
    return {} if threads is None else dict.fromkeys((THREADS, *_LIBRARIES), str(threads))


def fix_threads(configured: int) -> None:
    """Fix the number of threads of this process and its children, before anything heavy is imported."""
    os.environ.update(thread_environment(stage_threads(configured)))


def make_torch_deterministic(seed: int, threads: int | None = None) -> None:
    """Seed Python, numpy and torch, fix the thread count and forbid nondeterministic kernels.

    Args:
        seed: the seed.
        threads: torch's intra-op threads; default FLAWLINE_THREADS or the number of usable cores, at most 8.
            Results may differ in the last bit between thread counts, never between runs with one count.
    """
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    count = threads or int(os.environ.get(THREADS, 0)) or min(8, len(os.sched_getaffinity(0)))
    torch.set_num_threads(count)
    # The switch of use_deterministic_algorithms(True, warn_only=True), which also imports the compiler: two seconds.
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid that costs time
