"""Gradient guidance (MPTS): never step against the guide.

ProGrad's rule (arXiv 2205.14865, eq. 4), which the reconstruction of Human-Free follows: where the task gradient and
the guide's gradient point apart, the part of the task gradient that raises the guiding loss is taken out.
"""

from torch import Tensor

_TINY = 1e-12


def project(task: Tensor, guide: Tensor, weight: float) -> Tensor:
    """The guided gradient of one parameter tensor.

    Args:
        task: gradient of the task loss, any shape.
        guide: gradient of the guiding loss, same shape.
        weight: lambda; 0 is plain training, 1 makes a conflicting step orthogonal to the guide.

    Returns:
        `task` where the inner product is not negative, else task - weight·<task, guide>/|guide|²·guide.
    """
    inner = (task * guide).sum()
    norm = (guide * guide).sum()
    if inner >= 0 or norm < _TINY or weight == 0:
        return task
    return task - weight * inner / norm * guide
