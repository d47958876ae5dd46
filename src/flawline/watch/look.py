"""One look: what came in is scored, explained or kept, clustered, and compared with the known good images."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flawline.data.images import load_rgb
from flawline.data.vocabulary import added_types, load_vocabulary
from flawline.detector import GOOD as GOOD_WORD
from flawline.errors import FlawlineError
from flawline.files import atomic_file
from flawline.settings import Settings
from flawline.watch import state as verdicts
from flawline.watch.bank import Bank, make_bank
from flawline.watch.crops import box_of, embed
from flawline.watch.drift import Drift, drift
from flawline.watch.incoming import Incoming, Source, unseen
from flawline.watch.items import update_items
from flawline.watch.review import write_pages
from flawline.watch.state import Crop, State
from flawline.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image

    from flawline.detector import Detector, Result


@dataclass
class Look:
    """What one look brought.

    Attributes:
        counts: new images by verdict. total: all images ever, by verdict.
        opened: numbers of items opened now. grown: of open items that got crops.
        drift: of the newest good images.
        problems: a clause for each file that cannot be used, told once.
    """

    counts: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    opened: list[int] = field(default_factory=list)
    grown: list[int] = field(default_factory=list)
    drift: Drift = field(default_factory=lambda: Drift(0, 0, why="nothing was looked at"))
    problems: list[str] = field(default_factory=list)


def look(
    workspace: Workspace,
    settings: Settings,
    detector: "Detector",
    prompts: str,
    source: Source,
    say: Callable[[str], None] = lambda _: None,
) -> Look:
    """Look once at a source. Repeating it, also after a kill, counts nothing twice.

    Args:
        workspace: its .state/watch/ remembers.
        settings: `watch`, and the limits on images.
        detector: the champion.
        prompts: its sha256: scores of different prompt sets are never compared.
        source: from `open_source`.
        say: is told what takes long.

    Raises:
        FlawlineError: another look is going on, or the state cannot be used.
    """
    from filelock import FileLock, Timeout

    from flawline.serve.ahead import in_batches

    folder = workspace.state / "watch"
    folder.mkdir(parents=True, exist_ok=True)
    found = Look()
    try:
        with FileLock(folder / "lock", timeout=0), State(folder) as state:
            bank = make_bank(workspace, settings, detector, prompts, state, say)
            more = _added_words(workspace, settings)
            for batch in in_batches(unseen(source, state, found.problems), settings.features.batch):
                _take(settings, detector, prompts, bank, state, source, batch, found, more)
            fingerprint = detector.method.backbone.fingerprint
            with state.writing():
                opened, grown = update_items(workspace, settings, detector, bank, state, fingerprint)
                state.prune(settings.watch.keep)
            scores, whole = state.newest_good(prompts, settings.watch.drift_images)
            found.opened, found.grown, found.total = opened, grown, state.counts()
            found.drift = drift(scores, whole, bank.reference, detector.threshold, settings.watch)
            changed = {*opened, *grown}
            write_pages(workspace, settings, detector, bank, state, found.drift, changed)
    except Timeout as error:
        raise FlawlineError(f"another look is going on in {workspace.root}", "wait for it to end") from error
    return found


def _take(
    settings: Settings,
    detector: "Detector",
    prompts: str,
    bank: Bank,
    state: State,
    source: Source,
    batch: list[Incoming],
    found: Look,
    more: list[str],
) -> None:
    """Look at a batch of images and keep all of it in one transaction."""
    usable: list[tuple[Incoming, Image.Image]] = []
    broken: list[tuple[Incoming, str]] = []
    for one in batch:
        try:
            usable.append((one, load_rgb(one.path, settings.data.max_pixels)))
        except FlawlineError as error:
            broken.append((one, error.problem.removeprefix(f"{one.path}: ")))
    pictures = [picture for _, picture in usable]
    results = detector.score(pictures, more=more) if pictures else []
    judged = _judge(settings, detector, bank, pictures, results)
    with state.writing():
        for one, reason in broken:
            if state.add_image(one.sha256, one.name, verdicts.BROKEN, told=reason):
                found.problems.append(f"{one.name}: {reason}")
                _count(found, verdicts.BROKEN)
        for (one, _), result, (verdict, told, box, vector, whole) in zip(
            usable, results, judged, strict=True
        ):
            if not state.add_image(one.sha256, one.name, verdict, prompts, float(result.score), told, whole):
                continue
            _count(found, verdict)
            if verdict == verdicts.NEW and vector is not None and box is not None:
                file = _kept(state, one)
                crop = Crop(one.sha256, one.name, float(result.score), box, vector, file, None)
                state.add_crop(crop, detector.method.backbone.fingerprint)
        for one in batch:
            state.stamp(source.told, one.name, one.stamp, one.sha256)


def _added_words(workspace: Workspace, settings: Settings) -> list[str]:
    """Words of types that were added after the champion was trained: it can name them all the same."""
    added = added_types(workspace.data, settings.data.all)
    vocabulary = load_vocabulary(workspace.vocabulary) if added else None
    return [vocabulary.defect_words(*one) for one in added] if vocabulary else []


Judged = tuple[str, str, tuple[int, int, int, int] | None, np.ndarray | None, np.ndarray | None]


def _judge(
    settings: Settings,
    detector: "Detector",
    bank: Bank,
    pictures: "list[Image.Image]",
    results: "list[Result]",
) -> list[Judged]:
    """(verdict, what explains it, box and feature of the crop, feature of the image) of each picture."""
    bad = [k for k, result in enumerate(results) if result.is_anomalous]
    good = [k for k, result in enumerate(results) if not result.is_anomalous]
    backbone = detector.method.backbone
    whole = dict(zip(good, embed(backbone, [pictures[k] for k in good]), strict=True))
    boxes = {k: box_of(results[k].map, pictures[k].size, settings.watch.crop) for k in bad}
    cut = dict(zip(bad, embed(backbone, [pictures[k].crop(boxes[k]) for k in bad]), strict=True))
    judged: list[Judged] = []
    for k, result in enumerate(results):
        if k in whole:
            judged.append((verdicts.GOOD, "", None, None, whole[k]))
            continue
        named = named_type(result.types, settings.watch.match)
        if named:
            judged.append((verdicts.KNOWN, named, boxes[k], cut[k], None))
            continue
        like = bank.explain(cut[k])
        verdict, told = like if like else (verdicts.NEW, "")
        judged.append((verdict, told, boxes[k], cut[k], None))
    return judged


def named_type(types: dict[str, float], match: float) -> str:
    """The type that a champion names with at least a share `match` of all defects; empty for none."""
    defects = {word: share for word, share in types.items() if word != GOOD_WORD}
    total = sum(defects.values())
    if len(defects) < 2 or total <= 0:  # a single asked type always has all of it: that says nothing
        return ""
    best = max(defects, key=lambda word: defects[word])
    return best if defects[best] / total >= match else ""


def _kept(state: State, one: Incoming) -> str:
    """Copy an image into the state: its source may be emptied before a person decides."""
    name = f"{one.sha256}{one.path.suffix.lower()}"
    place = state.images_folder / name
    if not place.is_file():
        with atomic_file(place) as partial:
            shutil.copyfile(one.path, partial)
    return name


def _count(found: Look, verdict: str) -> None:
    found.counts[verdict] = found.counts.get(verdict, 0) + 1
