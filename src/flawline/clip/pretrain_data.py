"""The bank of rendered image-caption pairs: made once, kept on disk, read through a memory map."""

import multiprocessing
import os
from pathlib import Path

import numpy as np

from flawline.determinism import derived_seed
from flawline.errors import FlawlineError
from flawline.files import atomic_file, read_json, write_json
from flawline.progress import track
from flawline.render.pairs import caption, make_pair

SHARD = 1000  # scenes a file


class PairBank:
    """Scenes as uint8 pictures [2, n, n, 3] each (good, flawed) with material, part and defect names."""

    def __init__(self, files: list[Path], shard: int) -> None:
        self.shard = shard
        self.shards = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
        self.labels = [label for file in files for label in read_json(file.with_suffix(".json"))]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        """Pictures uint8 [2·len(rows), n, n, 3], good and flawed alternating, and a fresh caption for each."""
        pictures, captions = [], []
        for row in rows:
            pictures.append(self.shards[row // self.shard][row % self.shard])
            material, part, defect = self.labels[row]
            captions += [caption(rng, material, part, ""), caption(rng, material, part, defect)]
        return np.concatenate(pictures), captions


def _render_shard(job: tuple[Path, int, int, int, int]) -> None:
    file, number, shard, size, seed = job
    pairs = [make_pair(derived_seed(seed, number * shard + k), size) for k in range(shard)]
    write_json(file.with_suffix(".json"), [(p.material, p.part, p.defect) for p in pairs])
    with atomic_file(file) as partial, partial.open("wb") as stream:
        np.save(stream, np.stack([np.stack([p.good, p.flawed]) for p in pairs]), allow_pickle=False)


def open_bank(folder: Path, count: int, size: int, seed: int, shard: int = SHARD) -> PairBank:
    """Open the bank in `folder`, rendering what is missing (resumable: whole files of `shard` scenes).

    Args:
        folder: cache folder; about 100 MB a thousand scenes at 128 px.
        count: number of scenes, a multiple of `shard`.
        size: pixels a side.
        seed: of the scenes.
        shard: scenes a file.

    Raises:
        FlawlineError: `count` is no multiple of `shard`.
    """
    if count < shard or count % shard:
        raise FlawlineError(f"--renders must be a multiple of {shard}, got {count}", f"try --renders {shard}")
    files = [Path(folder) / f"{size}-{seed}-{number:04d}.npy" for number in range(count // shard)]
    jobs = [(file, number, shard, size, seed) for number, file in enumerate(files) if not file.is_file()]
    if jobs:
        workers = min(len(jobs), len(os.sched_getaffinity(0)))
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for _ in track(pool.imap_unordered(_render_shard, jobs), "rendering pairs", len(jobs)):
                pass
    return PairBank(files, shard)
