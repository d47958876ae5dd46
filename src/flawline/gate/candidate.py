"""One side of the comparison, and what a decision keeps of it so that it can be taken again from the files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flawline.errors import FlawlineError
from flawline.files import inside, read_json, sha256_file

#: what the gate reads of an evaluation folder
FILES = ("scores.parquet", "histograms.safetensors")


@dataclass(frozen=True)
class Candidate:
    """A prompt set before the gate.

    Attributes:
        described: `{version, method, train_set, seed, sha256}`, as decision files name it.
        evaluations: evaluation folder of each test set, of the prompt set that would serve.
        seeds: the same for every seed of its method and training set, itself among them; may be empty for the side
            that is only held against.
        threshold: of its card; scores above it raise an alarm. None: not known.
        cost: operations an image (`flawline.gate.cost`). None: could not be counted.
    """

    described: dict[str, Any]
    evaluations: Mapping[str, Path]
    seeds: Mapping[int, Mapping[str, Path]] = field(default_factory=dict)
    threshold: float | None = None
    cost: int | None = None


def threshold_of(prompt_set: Path) -> float | None:
    """The threshold on a prompt set's card; None where it names none."""
    card = read_json(prompt_set / "card.json")
    found = card.get("threshold") if isinstance(card, dict) else None
    value = found.get("value") if isinstance(found, dict) else None
    return float(value) if isinstance(value, int | float) else None


def kept(candidate: Candidate, root: Path) -> dict[str, Any]:
    """What a decision keeps of a candidate besides its name: paths relative to `root` and hashes of what was read.

    Raises:
        FlawlineError: a file is missing.
    """
    return {
        "threshold": candidate.threshold,
        "cost": candidate.cost,
        "evaluations": _hashed(candidate.evaluations, root),
        "seeds": {str(seed): _hashed(found, root) for seed, found in sorted(candidate.seeds.items())},
    }


def found_again(described: dict[str, Any], record: Mapping[str, Any], root: Path) -> Candidate:
    """The candidate of a decision, from files that are still what they were.

    Raises:
        FlawlineError: a file is gone or another one; the record leads outside the workspace.
    """
    return Candidate(
        described,
        _checked(record["evaluations"], root),
        {int(seed): _checked(found, root) for seed, found in record["seeds"].items()},
        record["threshold"],
        record["cost"],
    )


def require_file(root: Path, relative: str, sha256: str) -> Path:
    """`root / relative`, if it is there with this hash.

    Raises:
        FlawlineError: it is not; the message says which of the two.
    """
    path = inside(root, relative)
    if not path.is_file():
        raise FlawlineError(f"{relative}, which the decision was taken from, is gone", _REMEDY)
    if sha256_file(path) != sha256:
        raise FlawlineError(f"{relative} is no longer the file that the decision was taken from", _REMEDY)
    return path


_REMEDY = "check out the commit of that decision and its data (git checkout, dvc checkout), then check again"


def _hashed(folders: Mapping[str, Path], root: Path) -> dict[str, Any]:
    rows = {}
    for test, folder in sorted(folders.items()):
        place = folder.relative_to(root) if folder.is_relative_to(root) else folder
        rows[test] = {"folder": place.as_posix(), **{name: _sha(folder / name) for name in FILES}}
    return rows


def _sha(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise FlawlineError(f"{path} is missing", "run the evaluate stage (dvc repro)") from error


def _checked(rows: Mapping[str, Any], root: Path) -> dict[str, Path]:
    for row in rows.values():
        for name in FILES:
            require_file(root, f"{row['folder']}/{name}", row[name])
    return {test: inside(root, row["folder"]) for test, row in rows.items()}
