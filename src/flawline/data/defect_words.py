"""Built-in words for defect types: lists that a method can be trained with, by name.

`samples`: what the synthetic noises of flawline.synth look like, and what the sample data and most factories find
(CHOICE). `mvtec`: the 20 training classes of DAPO's released code and the MVTec AD folders of each (CODE).
"""

#: what the noises of flawline.synth look like, and what factories find
SAMPLES = {
    # noises
    "blocks": "discoloration", "blur": "wear", "dropout": "missing part", "gaussian": "rough surface",
    "line": "scratch", "low_frequency": "discoloration", "missing": "missing part", "oagm_full": "rough surface",
    "oagm_region": "rough surface", "paste": "foreign material", "salt_pepper": "contamination",
    "sharpen": "wear", "shuffle": "misaligned part", "speckle": "contamination", "stain": "stain",
    "uniform": "rough surface",
    # folders
    "bubble": "bubble", "chip": "chipped edge", "crack": "crack", "dent": "dent", "hole": "hole",
    "missing_part": "missing part", "rust": "rust", "scratch": "scratch", "thread": "loose thread",
    "wrinkle": "wrinkle",
}  # fmt: skip

#: released code: the word of each training class and the MVTec AD folders that belong to it
_MVTEC = {
    "bent": "bent bent_lead bent_wire manipulated_front",
    "broken": "broken broken_large broken_small broken_teeth",
    "discoloration": "color",
    "compound": "combined",
    "contamination": "contamination metal_contamination",
    "crack": "crack",
    "cut": "cut cut_inner_insulation cut_lead cut_outer_insulation",
    "fabric": "fabric fabric_border fabric_interior",
    "faulty imprint": "faulty_imprint print",
    "gluing": "glue glue_strip",
    "hole": "hole",
    "missing": "missing missing_wire missing_cable",
    "puncture": "poke poke_insulation",
    "rough": "rough",
    "scratch": "scratch scratch_head scratch_neck",
    "compressed": "squeeze squeezed_teeth",
    "threading": "thread thread_side thread_top",
    "liquid": "liquid oil",
    "misaligned": "misplaced cable_swap flip fold split_teeth",
    "wear": "damaged_case defective gray_stroke pill_type",
}

#: list name → {folder or noise: word}; folders with the same word are one class, in order of first mention
DEFECT_WORDS: dict[str, dict[str, str]] = {
    "samples": SAMPLES,
    "mvtec": {folder: word for word, folders in _MVTEC.items() for folder in folders.split()},
}
