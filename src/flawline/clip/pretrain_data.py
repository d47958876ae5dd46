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

_SHARD = 1000


class PairBank:
    """`count` scenes as uint8 pictures [count, 2, n, n, 3] (good, flawed) with material, part and defect names."""

    def __init__(self, folder: Path, count: int, size: int, seed: int) -> None:
        self.folder, self.count, self.size, self.seed = Path(folder), count, size, seed
        self.shards = [np.load(self._file(k), mmap_mode="r", allow_pickle=False) for k in range(self._shards)]
        self.labels = [label for k in range(self._shards) for label in read_json(self._labels(k))]

    @property
    def _shards(self) -> int:
        return -(-self.count // _SHARD)

    def _file(self, shard: int) -> Path:
        return self.folder / f"{self.size}-{self.seed}-{shard:04d}.npy"

    def _labels(self, shard: int) -> Path:
        return self._file(shard).with_suffix(".json")

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        """Pictures uint8 [2·len(rows), n, n, 3], good and flawed alternating, and a fresh caption for each."""
        pictures, captions = [], []
        for row in rows:
            pictures.append(self.shards[row // _SHARD][row % _SHARD])
            material, part, defect = self.labels[row]
            captions += [caption(rng, material, part, ""), caption(rng, material, part, defect)]
        return np.concatenate(pictures), captions


def _render_shard(job: tuple[str, str, int, int, int]) -> None:
    file, labels, shard, size, seed = job
    pairs = [make_pair(derived_seed(seed, shard * _SHARD + k), size) for k in range(_SHARD)]
    write_json(Path(labels), [(p.material, p.part, p.defect) for p in pairs])
    with atomic_file(Path(file)) as partial, partial.open("wb") as stream:
        np.save(stream, np.stack([np.stack([p.good, p.flawed]) for p in pairs]), allow_pickle=False)


def open_bank(folder: Path, count: int, size: int, seed: int) -> PairBank:
    """Open the bank in `folder`, rendering what is missing (resumable: whole shards of 1000 scenes).

    Args:
        folder: cache folder; about 100 MB a thousand scenes at 128 px.
        count: number of scenes, a multiple of 1000.
        size: pixels a side.
        seed: of the scenes.
    """
    if count < _SHARD or count % _SHARD:
        raise FlawlineError(
            f"--renders must be a multiple of {_SHARD}, got {count}", f"try --renders {_SHARD}"
        )
    bank = PairBank.__new__(PairBank)
    bank.folder, bank.count, bank.size, bank.seed = Path(folder), count, size, seed
    jobs = [
        (str(bank._file(k)), str(bank._labels(k)), k, size, seed)
        for k in range(count // _SHARD)
        if not bank._file(k).is_file()
    ]
    if jobs:
        workers = min(len(jobs), len(os.sched_getaffinity(0)))
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for _ in track(pool.imap_unordered(_render_shard, jobs), "rendering pairs", len(jobs)):
                pass
    return PairBank(Path(folder), count, size, seed)
