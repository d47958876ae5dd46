"""Whatever torch build: torchvision and open_clip import after the shim, and again."""

import subprocess
import sys


def test_open_clip_imports_in_a_fresh_process_after_the_shim() -> None:
    code = (
        "from flawline.clip.torchvision_shim import ensure_torchvision as e; a = e(); b = e(); "
        "import torchvision, open_clip; assert a == b; print('fine')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "fine", done.stderr[-2000:]
