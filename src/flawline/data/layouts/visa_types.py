"""VisA's defect types: what the numbers in its masks mean (the official id2class.json, as published with the data)."""

import re

#: class → words of the ids 1, 2, 3, …, spelled as published; 0 is background
TYPES: dict[str, tuple[str, ...]] = {
    "candle": (
        "chunk of wax missing", "damaged corner of packaging", "weird candle wick", "different colour spot",
        "extra wax in candle", "foreign particals on candle", "wax melded out of the candle", "other",
    ),
    "capsules": ("bubble", "discolor", "scratch", "leak", "misshape"),
    "cashew": (
        "burnt", "corner or edge breakage", "different colour spot", "middle breakage", "small holes",
        "small scratches", "stuck together", "same colour spot", "other",
    ),
    "chewinggum": (
        "chunk of gum missing", "corner missing", "scratches", "similar colour spot", "small cracks", "other",
    ),
    "fryum": (
        "burnt", "corner or edge breakage", "different colour spot", "fryum stuck together", "middle breakage",
        "similar colour spot", "small scratches", "other",
    ),
    "macaroni1": (
        "chip around edge and corner", "different colour spot", "middle breakage", "similar colour spot",
        "small cracks", "small scratches", "other",
    ),
    "macaroni2": (
        "breakage down the middle", "color spot similar to the object", "different color spot",
        "small chip around edge", "small cracks", "small scratches", "other",
    ),
    "pcb1": ("bent", "melt", "scratch", "missing"),
    "pcb2": ("bent", "melt", "scratch", "missing"),
    "pcb3": ("bent", "melt", "scratch", "missing"),
    "pcb4": ("burnt", "scratch", "missing", "damage", "extra", "wrong place", "dirt"),
    "pipe_fryum": (
        "burnt", "corner and edge breakage", "different colour spot", "middle breakage", "similar colour spot",
        "small scratches", "stuck together", "small cracks", "other",
    ),
}  # fmt: skip


def folder_name(words: str) -> str:
    """The folder of a defect type: its words in lower case, everything but letters and digits as `_`."""
    return re.sub(r"[^a-z0-9]+", "_", words.casefold()).strip("_")
