"""What an image costs: counted operations instead of seconds.

Seconds depend on the machine, on what else it does, and on the weather; a decision that is to be taken again from its
files cannot hang on them. The operations of a forward pass follow from the prompt set alone: image tower, second
paths, adapters, and the text tower where prompts depend on the image. They are what latency grows with where two
prompt sets share a backbone. Weights that are only read (a text feature folded at loading) cost nothing here.
"""

from pathlib import Path

from flawline.errors import FlawlineError


def operations(prompt_set: Path, root: Path) -> int:
    """Floating-point operations of matrix products, convolutions and attention to score one image.

    Args:
        prompt_set: folder with prompts.safetensors and card.json.
        root: the workspace, where weights are looked up.

    Returns:
        A count that is the same on every machine: attention is counted as its matrix products.

    Raises:
        FlawlineError: the prompt set or its backbone cannot be loaded, or it scores no image without support.
    """
    import torch
    from PIL import Image
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from flawline.detector import Detector

    detector = Detector.open(prompt_set, root)
    side = detector.method.backbone.image_size
    picture = Image.new("RGB", (side, side), (128, 128, 128))
    # The first image also folds the text features; every later one costs the same.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        detector.score([picture])
        with FlopCounterMode(display=False) as counter:
            detector.score([picture])
    return int(counter.get_total_flops())


def operations_or_none(prompt_set: Path, root: Path) -> int | None:
    """`operations`; None where they cannot be counted."""
    try:
        return operations(prompt_set, root)
    except FlawlineError:
        return None
