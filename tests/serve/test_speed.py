"""Plans are taken for speed only where they agree, and measured once."""

import json
from pathlib import Path

import numpy as np
import pytest

from flawline.clip.backbone import load_backbone
from flawline.clip.products import has_onednn
from flawline.detector import Detector
from flawline.errors import FlawlineError
from flawline.prompts import method_class, method_options
from flawline.serve import speed
from flawline.serve.encoder import PLAIN, Plan
from flawline.serve.speed import TOLERANCE, Timed, candidates, choose, measure
from flawline.settings import BackboneSettings, ImagePath

NARROW, HALF = Plan(narrow=True), Plan("bfloat16", narrow=True)
COMPILED = Plan("float32", True, True)


def timed(batch: float, difference: float = 0.0, start: float = 0.0) -> Timed:
    return Timed(start=start, batch=batch, difference=difference)


def test_the_fastest_that_agrees_is_taken() -> None:
    found = {PLAIN.name: timed(1.0), NARROW.name: timed(0.9), HALF.name: timed(0.5, TOLERANCE)}
    assert choose(found, 10) == HALF
    found[HALF.name] = timed(0.5, TOLERANCE * 1.01)
    assert choose(found, 10) == NARROW
    found[NARROW.name] = timed(0.99)
    assert choose(found, 10) == PLAIN  # one hundredth is noise


def test_compiling_must_pay() -> None:
    found = {PLAIN.name: timed(1.0), COMPILED.name: timed(0.5, start=30.0)}
    assert choose(found, 50) == PLAIN
    assert choose(found, 500) == COMPILED


class Clock:
    """Plans take as many seconds as they are told; the first call of a compiled one 30 more."""

    def __init__(self, seconds: dict[str, float], off: dict[str, float]) -> None:
        self.now, self.seconds, self.off = 0.0, seconds, off
        self.tried: list[str] = []

    def __call__(self) -> float:
        return self.now

    def run(self, plan: Plan):
        self.tried.append(plan.name)
        self.now += 30 * plan.compiled

        def score() -> tuple[np.ndarray, np.ndarray]:
            if plan.name not in self.seconds:
                raise RuntimeError("no such kernel")
            self.now += self.seconds[plan.name]
            far = self.off.get(plan.name, 0.0)
            return np.full(2, 0.5 + far), np.full((2, 4, 4), 0.25)

        return score


def test_measuring_tells_seconds_start_and_difference() -> None:
    clock = Clock({PLAIN.name: 1.0, HALF.name: 0.25, COMPILED.name: 0.5}, {HALF.name: -0.125})
    found = measure([PLAIN, NARROW, HALF, COMPILED], clock.run, clock)
    assert found == {
        PLAIN.name: timed(1.0),
        HALF.name: timed(0.25, 0.125),
        COMPILED.name: timed(0.5, start=30.0),
    }
    assert clock.tried == [PLAIN.name, NARROW.name, HALF.name, COMPILED.name]  # one that fails is left out


def test_a_plain_plan_that_fails_is_no_plan() -> None:
    with pytest.raises(RuntimeError, match="no such kernel"):
        measure([PLAIN], Clock({}, {}).run)


def test_candidates_start_plain_and_compile_only_with_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    assert candidates(False)[0] == PLAIN and not any(plan.compiled for plan in candidates(False))
    assert sum(plan.compiled for plan in candidates(True)) == 2
    assert any(plan.onednn for plan in candidates(False)) == has_onednn()
    assert not any(plan.onednn and plan.compiled for plan in candidates(True))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not speed.has_compiler()


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    settings = BackboneSettings(name="flawline-tiny", weights="none", image_size=64, seed=1)
    backbone = load_backbone(settings, tmp_path)
    options = method_options("human_free", {"image_path": "laa", "temperature": 0.05})
    path = ImagePath(attention="vv", radius=1, levels=[6])
    method = method_class("human_free")(backbone, options, 0)
    made = Detector(method, {"main": path}, {"threshold": {"value": 0.5}}, tmp_path)
    made.batch = 2
    return made


def _pictures(detector: Detector):
    from PIL import Image

    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (80, 60, 3), dtype=np.uint8)) for _ in range(3)]


def test_a_fast_detector_agrees_measures_once_and_leaves_the_plain_one_alone(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = detector.score(_pictures(detector))
    assert not (tmp_path / ".flawline").exists()
    detector.speed_up(100)
    fast = detector.score(_pictures(detector))
    for one, other in zip(plain, fast, strict=True):
        assert abs(one.score - other.score) <= TOLERANCE and abs(one.map - other.map).max() <= TOLERANCE
    path = tmp_path / ".flawline" / speed.FILE
    [entry] = json.loads(path.read_text("utf-8")).values()
    assert set(entry["plans"]) == set(entry["tried"]) == {plan.name for plan in candidates(False)}
    assert entry["of"]["batch"] == 2 and entry["of"]["backbone"] == detector.method.backbone.fingerprint
    before = path.read_bytes()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(speed, "measure", never)
    detector.speed_up(100)
    assert [r.score for r in detector.score(_pictures(detector))] == [r.score for r in fast]
    assert path.read_bytes() == before
    detector.batch = 3
    detector.speed_up(100)
    with pytest.raises(AssertionError, match="measured again"):
        detector.score(_pictures(detector))


def test_a_broken_cache_file_is_made_again(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".flawline" / speed.FILE
    path.parent.mkdir()
    monkeypatch.setattr(speed, "measure", lambda *_: {PLAIN.name: timed(1.0)})
    wrong = '{"x": {"of": {}, "tried": ["float32"], "plans": {"float32": 1}}}'
    for left in ("", "[1, 2]", wrong, "\ud800".encode("utf-8", "surrogatepass")):
        path.write_bytes(left if isinstance(left, bytes) else left.encode())
        assert speed.fastest_plan(detector, lambda *_: [], 10, tmp_path) == PLAIN
        [entry] = json.loads(path.read_text("utf-8")).values()
        assert entry["plans"] == {PLAIN.name: {"start": 0.0, "batch": 1.0, "difference": 0.0}}


def test_methods_that_run_the_tower_themselves_stay_plain(tmp_path: Path, detector: Detector) -> None:
    backbone = detector.method.backbone
    quick = {"image_path": "laa", "variants": 1, "defects": {"line": "scratch"}}
    method = method_class("dapo")(backbone, method_options("dapo", quick), 0)
    dapo = Detector(method, detector.paths, {"threshold": {"value": 0.5}}, tmp_path)
    dapo.speed_up()
    dapo.score(_pictures(detector)[:1])
    assert not (tmp_path / ".flawline").exists()


def test_an_unknown_category_is_told_as_ever(detector: Detector, tmp_path: Path) -> None:
    method = method_class("patch_memory")(
        detector.method.backbone, method_options("patch_memory", {"image_path": "laa"}), 0
    )
    empty = Detector(method, detector.paths, {"threshold": {"value": 0.5}}, tmp_path)
    empty.speed_up()
    with pytest.raises(FlawlineError, match="no good images"):
        empty.score(_pictures(detector))
