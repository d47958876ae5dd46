"""Lets `import torchvision` (and so open_clip) work beside a CPU build of torch.

The torchvision wheel of the package index is linked against CUDA. Beside a CPU torch its library cannot load,
and then importing torchvision fails with "operator torchvision::nms does not exist" (pytorch/vision #9085),
because it registers fake kernels for operators nobody defined. Defining their schemas beforehand is enough:
flawline needs none of these operators. Where the library loads, nothing is changed.
"""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: Any = None  # torch.library.Library unregisters its operators when it is collected
_preparing = False  # looking for torchvision may come back here through an import hook


def ensure_torchvision() -> bool:
    """Make `import torchvision` safe; call it before the first import of torchvision, open_clip or timm.

    Returns:
        True where torchvision's own operators are there, False where only their schemas stand in.
    """
    global _preparing
    if _preparing:
        return False
    if _library is None and "torchvision" not in sys.modules:
        _preparing = True
        try:
            _prepare()
        finally:
            _preparing = False
    from torchvision.extension import _has_ops

    return bool(_has_ops())


def _prepare() -> None:
    """Load torchvision's library, or define the schemas of the operators it registers fake kernels for."""
    global _library
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")
    package = Path(spec.submodule_search_locations[0])
    try:
        for shared_object in sorted(package.glob("_C*.so")):
            torch.ops.load_library(str(shared_object))
    except OSError:
        source = (package / "_meta_registrations.py").read_text(encoding="utf-8")
        _library = torch.library.Library("torchvision", "DEF")
        for operator in sorted(set(re.findall(r'register_fake\("torchvision::(\w+)"\)', source))):
            _library.define(operator + _SCHEMA)
