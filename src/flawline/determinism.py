"""Same input, same bytes: seeds and threads."""

import hashlib
import os
import random


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from any parts (names, numbers), the same on every machine and Python version."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


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
    count = threads or int(os.environ.get("FLAWLINE_THREADS", 0)) or min(8, len(os.sched_getaffinity(0)))
    torch.set_num_threads(count)
    # The switch of use_deterministic_algorithms(True, warn_only=True), which also imports the compiler: two seconds.
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid that costs time
