"""Pictures inside the page: base64, within a budget, the same bytes every time."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from flawline.errors import FlawlineError

QUALITY = 82


@dataclass
class Budget:
    """How many bytes of pictures may still enter the page; what no longer fits is left out, not shrunk."""

    left: int = 4_200_000
    refused: int = 0

    def take(self, source: Markup | None) -> Markup | None:
        """`source` if it fits, else None."""
        if source is None or len(source) > self.left:
            self.refused += source is not None
            return None
        self.left -= len(source)
        return source


def inline(data: bytes, kind: str) -> Markup:
    """Bytes of a picture as a data URL; `kind` is `png` or `jpeg`."""
    return Markup(f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}")


def inline_jpeg(path: Path, width: int) -> Markup | None:
    """A picture file as a JPEG data URL, at most `width` pixels wide; None where there is no file.

    Raises:
        FlawlineError: the file is not a picture.
    """
    if not path.is_file():
        return None
    try:
        with Image.open(path) as picture:
            photo = picture.convert("RGB")
    except (OSError, ValueError) as error:
        raise FlawlineError(f"{path} cannot be read", "delete it and run its stage again") from error
    if photo.width > width:
        photo = photo.resize((width, round(photo.height * width / photo.width)), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=QUALITY, optimize=True)
    return inline(stream.getvalue(), "jpeg")
