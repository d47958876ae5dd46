"""The memory of good patches, against a plain loop over all pairs."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flawline.errors import FlawlineError
from flawline.prompts.shared import memory
from flawline.prompts.shared.memory import PatchMemory


def _features(images: int = 6, seed: int = 0, levels: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(images, levels, 9, 16, generator=generator), dim=-1)


def _filled(features: Tensor, categories: list[str]) -> PatchMemory:
    memory = PatchMemory()
    memory.fill(features, categories)
    return memory


def _slow(features: Tensor, good: Tensor) -> Tensor:
    want = torch.empty(features.shape[:3])
    for b, level, n in torch.cartesian_prod(*(torch.arange(size) for size in features.shape[:3])).tolist():
        token = features[b, level, n]
        want[b, level, n] = min((1 - float(token @ other)) / 2 for other in good[:, level].flatten(0, 1))
    return want


@pytest.mark.parametrize(("block", "columns"), [(2**22, 4096), (16, 5), (1, 1), (7, 64)])
def test_distance_is_a_plain_loops_whatever_the_block(
    block: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_BLOCK", block)
    monkeypatch.setattr(memory, "_MOST_COLUMNS", columns)
    good, new = _features(3), _features(4, seed=1)
    found = _filled(good, ["gear"] * 3).distance(new, ["gear"] * 4)
    assert torch.allclose(found, _slow(new, good), atol=1e-6)
    assert float(found.min()) >= 0 and float(found.max()) <= 1


def test_each_category_has_its_own_memory() -> None:
    good, new = _features(4), _features(4, seed=1)
    both = _filled(good, ["gear", "mesh", "gear", "mesh"])
    found = both.distance(new, ["mesh", "gear", "gear", "mesh"])
    for category, mine, rows in (("gear", [0, 2], [1, 2]), ("mesh", [1, 3], [0, 3])):
        alone = _filled(good[mine], [category] * 2)
        assert torch.allclose(found[rows], alone.distance(new[rows], [category] * 2), atol=1e-6)
    assert not torch.allclose(found, both.distance(new, ["gear", "mesh", "mesh", "gear"]), atol=1e-2)


def test_a_good_image_is_at_distance_0_of_itself_and_its_opposite_far() -> None:
    good = _features(2)
    filled = _filled(good, ["gear"] * 2)
    assert float(filled.distance(good, ["gear"] * 2).max()) < 1e-6
    assert float(filled.distance(good.half().float() * 3, ["gear"] * 2).max()) < 1e-5  # length plays no part
    single = _filled(good[:1, :, :1], [])
    assert torch.allclose(single.distance(-good[:1, :, :1], []), torch.ones(1, 2, 1), atol=1e-6)


def test_order_and_copies_of_good_images_change_nothing() -> None:
    good, new = _features(3), _features(4, seed=1)
    want = _filled(good, []).distance(new, [])
    for rows in ([2, 0, 1], [0, 0, 1, 2, 2, 1]):
        assert torch.allclose(_filled(good[rows], []).distance(new, []), want, atol=1e-6)


def test_more_good_images_never_raise_a_score() -> None:
    good, new = _features(5), _features(4, seed=1)
    few, many = (_filled(good[:k], []).distance(new, []) for k in (2, 5))
    assert (many <= few + 1e-6).all() and float((few - many).max()) > 0


def test_levels_are_kept_apart() -> None:
    good = _features(2)
    found = _filled(good, []).distance(good.flip(1), [])
    assert float(found.min()) > 1e-3


def test_filling_again_replaces_a_category_and_leaves_the_others() -> None:
    first, second = _features(2), _features(2, seed=1)
    filled = _filled(first, ["gear", "mesh"])
    filled.fill(second[:1], ["gear"])
    assert float(filled.distance(second[:1], ["gear"]).max()) < 1e-6
    assert float(filled.distance(first[:1], ["gear"]).max()) > 1e-2
    assert float(filled.distance(first[1:], ["mesh"]).max()) < 1e-6


def test_what_is_not_remembered_is_named() -> None:
    empty, filled = PatchMemory(), _filled(_features(2), ["gear", "mesh"])
    with pytest.raises(FlawlineError, match=r"an unnamed category are remembered \(but of nothing\)"):
        empty.distance(_features(1), [])
    with pytest.raises(FlawlineError, match=r"category 'bolt' are remembered \(but of gear, mesh\)"):
        filled.distance(_features(1), ["bolt"])
    with pytest.raises(FlawlineError, match="unnamed category"):
        filled.distance(_features(1), [])  # two products: nobody can tell which


def test_an_untold_category_means_the_only_one() -> None:
    good, new = _features(2), _features(1, seed=1)
    filled = _filled(good, ["gear", "gear"])
    assert torch.equal(filled.distance(new, []), filled.distance(new, ["gear"]))


def test_memories_travel_with_the_state_of_a_module_whatever_their_names() -> None:
    names = ["metal_nut", "v1.2 / left", "memory"]
    holder, other = (nn.ModuleDict({"memory": PatchMemory()}) for _ in range(2))
    assert dict(holder.state_dict()) == {}
    holder["memory"].fill(_features(3), names)  # type: ignore[operator]
    state = holder.state_dict()
    assert sorted(state) == sorted(f"memory.{name}" for name in names)
    other.load_state_dict(state)
    new = _features(3, seed=1)
    assert torch.equal(other["memory"].distance(new, names), holder["memory"].distance(new, names))  # type: ignore[operator]
