"""A process of its own that runs the features stage: `python child.py SETTINGS_JSON WORKSPACE LOG SECONDS`.

It sleeps SECONDS before each pass of the tower, and adds a line with the number of its images to LOG after each.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from flawline.features import encode
from flawline.settings import Settings
from flawline.stages import features as stage
from flawline.workspace import Workspace

settings, root, log, seconds = sys.argv[1:]
real = encode.encode_image


def slow(backbone: Any, images: Any, paths: Any) -> Any:
    time.sleep(float(seconds))
    found = real(backbone, images, paths)
    with Path(log).open("a") as lines:
        lines.write(f"{len(images)}\n")
    return found


encode.encode_image = slow
given = Settings.model_validate(json.loads(Path(settings).read_text()))
stage.run(Workspace(Path(root)), given, "train", "parts")
