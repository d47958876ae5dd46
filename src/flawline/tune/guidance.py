"""Gradient guidance (MPTS): never step against the guide.

ProGrad's rule (arXiv 2205.14865, eq. 4), which the reconstruction of Human-Free follows: where the task gradient and
the guide's gradient point apart, the part of the task gradient that raises the guiding loss is taken out.
"""

from torch import Tensor

#: a guide's gradient shorter than this says nothing (the prompts equal their teacher)
SILENT = 1e-8


def project(task: Tensor, guide: Tensor, weight: float) -> Tensor:
    """The guided gradient of one parameter tensor.

    Computed in float64: where the gradients are nearly opposite, little is left of the task's, and its float32
    rounding could point against the guide.

    Args:
        task: gradient of the task loss, any shape.
        guide: gradient of the guiding loss, same shape.
        weight: lambda; 0 is plain training, 1 makes a conflicting step orthogonal to the guide.

    Returns:
        `task` where the inner product is not negative, else task - weight·<task, guide>/|guide|²·guide. With
        weight 1 its inner product with the guide is at least -1e-6 of the product of their lengths.
    """
    exact, against = task.double(), guide.double()
    inner = (exact * against).sum()
    norm = (against * against).sum()
    if inner >= 0 or norm < SILENT**2 or weight == 0:
        return task
    return (exact - weight * inner / norm * against).to(task.dtype)
