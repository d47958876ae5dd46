import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from flawline.data.images import (
    examine,
    examine_mask,
    is_image_name,
    load_mask,
    load_rgb,
    mask_values,
    problem,
    size,
    spread,
)
from flawline.errors import FlawlineError

from .trees import cut_short, huge_png, mask, picture


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "bmp", "tif", "TIFF", "webp"])
def test_every_format_reads(tmp_path: Path, suffix: str) -> None:
    path = picture(tmp_path / f"a.{suffix}")
    assert is_image_name(path)
    assert problem(path) is None
    assert size(path) == (72, 72)
    assert load_rgb(path).mode == "RGB"


def test_other_names_are_no_images() -> None:
    assert not any(is_image_name(Path(name)) for name in ("a.txt", "a", ".a.png", "Thumbs.db", "a.gif"))


def test_zero_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    assert problem(path) == "zero bytes"


def test_text_named_png(tmp_path: Path) -> None:
    path = tmp_path / "a.PNG"
    path.write_text("grün is no image\n", encoding="utf-8")
    assert problem(path) == "a text file named .png, not an image"
    with pytest.raises(FlawlineError, match=r"a\.PNG: a text file"):
        load_rgb(path)


def test_other_bytes_and_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(bytes(range(128, 256)) * 4)
    assert problem(path) == "not a JPEG, PNG, BMP, TIFF or WebP image"
    picture(path, format="GIF")
    assert problem(path) == "not a JPEG, PNG, BMP, TIFF or WebP image"


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    path = cut_short(picture(tmp_path / f"a.{suffix}"))
    assert problem(path) == "truncated"
    assert size(path) == (72, 72)
    with pytest.raises(FlawlineError, match="truncated"):
        load_rgb(path)


def test_damaged_in_the_middle(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    assert (problem(path) or "").startswith("damaged")


def test_huge_image_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(image: ImageFile.ImageFile) -> None:
        pytest.fail("memory for the pixels was asked for")

    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", allocate)
    path = huge_png(tmp_path / "a.png")
    clause = "too large: 60000×60000 pixels, data.max_pixels allows 1000000"
    assert problem(path, max_pixels=1_000_000) == clause
    assert examine(path, max_pixels=1_000_000) == ((60_000, 60_000), clause, None)
    assert examine_mask(path, max_pixels=1_000_000).fits((72, 72)) == f"cannot be used: {clause}"
    assert size(path) == (60_000, 60_000)
    for read in (load_rgb, load_mask):
        with pytest.raises(FlawlineError, match="too large"):
            read(path)


def test_the_cap_is_ours_not_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # 72 × 72 is a bomb for Pillow now
    path = picture(tmp_path / "a.png")
    assert problem(path, max_pixels=72 * 72) is None
    assert problem(path, max_pixels=72 * 72 - 1) == "too large: 72×72 pixels, data.max_pixels allows 5183"
    assert Image.MAX_IMAGE_PIXELS == 100


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert problem(tmp_path / "a.png") == "cannot be read: No such file or directory"
    assert (problem(tmp_path) or "").startswith("cannot be read")
    assert size(tmp_path / "a.png") is None


def test_bytes_read_as_well_as_files(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    assert np.array_equal(load_rgb(io.BytesIO(path.read_bytes())), load_rgb(path))
    assert problem(io.BytesIO(b"")) == "not a JPEG, PNG, BMP, TIFF or WebP image"


def test_exif_orientation_turns_image_and_size(tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), dtype=np.uint8)
    pixels[:20, :40] = 255  # upper left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert size(tmp_path / "a.png") == (40, 80)
    assert examine(tmp_path / "a.png")[:2] == ((40, 80), None)
    upright = np.asarray(load_rgb(tmp_path / "a.png"))
    assert upright.shape == (80, 40, 3)
    assert upright[0, -1, 0] == 255 and upright[0, 0, 0] == 0  # upper left became upper right
    assert load_mask(tmp_path / "a.png").shape == (80, 40)


def test_sixteen_bit_greys_keep_their_order(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(ramp).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(load_rgb(tmp_path / "a.png"))[..., 0], ramp >> 8)


def test_thirty_two_bit_images_are_told(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((16, 16), dtype=np.float32)).save(tmp_path / "a.tif")
    assert (problem(tmp_path / "a.tif") or "").startswith("unsupported")


def test_mask_values_above_zero_count(tmp_path: Path) -> None:
    values = np.zeros((16, 16), dtype=np.uint8)
    values[2, 3], values[4, 5] = 1, 255  # VisA writes small type numbers
    expected = values > 0
    Image.fromarray(values).save(tmp_path / "grey.png")
    Image.fromarray(expected).save(tmp_path / "bits.png")
    Image.fromarray(np.stack([values, 0 * values, 0 * values], axis=-1)).save(tmp_path / "red.png")
    see_through = np.dstack(
        [np.full((16, 16, 3), 255, np.uint8), np.where(expected, 255, 0).astype(np.uint8)]
    )
    Image.fromarray(see_through).save(tmp_path / "alpha.png")
    numbered = Image.fromarray(values, mode=None).convert("P")
    numbered.putpalette([0, 0, 0] * 256)  # every type drawn black: the number counts, not the colour
    numbered.putdata(values.ravel().tolist())
    numbered.save(tmp_path / "palette.png")
    for path in sorted(tmp_path.iterdir()):
        found = load_mask(path)
        assert found.dtype == np.bool_ and np.array_equal(found, expected), path.name


def test_jpeg_masks_do_not_count_ringing(tmp_path: Path) -> None:
    values = np.zeros((64, 64), dtype=np.uint8)
    values[11:37, 13:29] = 255
    Image.fromarray(values).save(tmp_path / "a.jpg", quality=40)
    assert (np.asarray(Image.open(tmp_path / "a.jpg")) > 0).sum() > (values > 0).sum() * 1.05
    assert abs(int(load_mask(tmp_path / "a.jpg").sum()) - int((values > 0).sum())) < 10


def test_mask_problems(tmp_path: Path) -> None:
    assert examine_mask(mask(tmp_path / "a.png", (30, 40))).fits((30, 40)) is None
    assert examine_mask(tmp_path / "a.png").fits((40, 30)) == "is 30×40 pixels, its image 40×30"
    assert (
        examine_mask(mask(tmp_path / "b.png", marked=False)).fits((72, 72)) == "is empty: no pixel is marked"
    )
    (tmp_path / "c.png").touch()
    assert examine_mask(tmp_path / "c.png").fits((72, 72)) == "cannot be used: zero bytes"


def test_spread_tells_blank_images(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), (90, 90, 90)).save(tmp_path / "blank.png")
    assert spread(tmp_path / "blank.png") < 0.5
    Image.linear_gradient("L").save(tmp_path / "ramp.png")
    assert spread(tmp_path / "ramp.png") > 50
    assert examine(tmp_path / "ramp.png").spread == spread(tmp_path / "ramp.png")


def test_mask_values_are_the_numbers_above_zero(tmp_path: Path) -> None:
    values = np.zeros((16, 16), dtype=np.uint8)
    values[:4], values[8:] = 3, 7
    Image.fromarray(values).save(tmp_path / "grey.png")
    assert mask_values(tmp_path / "grey.png") == {3, 7}
    Image.fromarray(np.dstack([values] * 3)).save(tmp_path / "colour.png")
    assert mask_values(tmp_path / "colour.png") == frozenset()
    with pytest.raises(FlawlineError, match=r"gone\.png"):
        mask_values(tmp_path / "gone.png")
