"""The network that knows things again: crops, families, what it is taught, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from prisbench.embedded.files import SceneFolder
from prisbench.embedded.rivals.card import card
from prisbench.embedded.rivals.pools import read_pools
from prisbench.embedded.rivals.quality import quality
from prisbench.embedded.rivals.recipes import ReIdRecipe
from prisbench.embedded.rivals.reid import Families, Shown, contrast, draw, first, worn
from prisbench.embedded.scenes import draw_scenes, numbered
from prisbench.errors import BackboneError
from prisbench.reid.crops import SIDE, Change, crop, crops
from prisbench.reid.network import FOLDER, Config, Knower, ReIdNet, load_network, save_network, vectors
from prisbench.runtime.files import read_json, sha256_file
from prisbench.tabletop.families import PHOTOS, VIEWS, family, family_scene
from prisbench.tabletop.individuals import grade_between
from prisbench.tabletop.scenes import SIZES_HW
from prisbench.tabletop.subjects import subjects

SMALL = Config((8, 16), 4, 8)


def network() -> ReIdNet:
    torch.manual_seed(0)
    return ReIdNet(SMALL).eval()


def square() -> tuple[np.ndarray, np.ndarray]:
    """A white square of 20 pixels on grey, its upper left quarter black."""
    photo, mask = np.full((60, 80, 3), 128, np.uint8), np.zeros((60, 80), bool)
    mask[20:40, 30:50] = True
    photo[mask] = 255
    photo[20:30, 30:40] = 0
    return photo, mask


# --- families -------------------------------------------------------------------------------------------------------


def test_no_family_shows_what_the_benchmark_keeps_back() -> None:
    members = [one for number in range(60) for one in family(number).members]
    assert len(members) > 600 and not any(one.held_out for one in members)
    assert all(each.who.held_out for each in subjects())


def test_look_alikes_of_a_family_differ_in_what_their_grade_says() -> None:
    kinds = set()
    for number in range(40):
        found = family(number)
        for grade, ones in found.alike.items():
            kinds.add(grade)
            assert ones and all(grade_between(found.who, one) == grade for one in ones)
        assert all(grade_between(found.who, one) == "compound" for one in found.mixed)
        assert all(one.noun != found.who.noun for one in found.others)
    assert kinds == {"colour", "second", "pattern", "swap", "build"}


def test_a_familys_scenes_are_the_same_anew_and_tell_who_is_who() -> None:
    for view in (0, 3):
        scene, members = family_scene(5, view)
        again, _ = family_scene(5, view)
        assert np.array_equal(scene.image, again.image)
        assert [thing.individual for thing in scene.things] == [family(5).members[n] for n in members]
    assert all(0 in family_scene(number, view)[1] for number in range(4) for view in range(PHOTOS))


# --- crops ----------------------------------------------------------------------------------------------------------


def test_a_crop_holds_the_thing_in_its_middle_whatever_its_size() -> None:
    photo, mask = square()
    one = crop(photo, mask)
    large = crop(np.repeat(np.repeat(photo, 3, 0), 3, 1), np.repeat(np.repeat(mask, 3, 0), 3, 1))
    assert one.shape == (4, SIDE, SIDE) and float((one - large).abs().mean()) < 0.06
    ys, xs = torch.nonzero(one[3] > 0.5, as_tuple=True)
    assert abs(float(ys.float().mean()) - (SIDE - 1) / 2) < 0.5 and abs(float(xs.float().mean()) - (SIDE - 1) / 2) < 0.5
    assert SIDE / 1.3 - 2 < int(ys.max() - ys.min()) < SIDE / 1.3 + 2
    quarter = SIDE // 2 - SIDE // 8
    assert one[0, quarter, quarter] < -0.9 and one[0, quarter, SIDE - quarter] > 0.9


def test_a_changed_crop_is_turned_mirrored_and_moved() -> None:
    photo, mask = square()
    one, quarter = crop(photo, mask), SIDE // 2 - SIDE // 8
    mirrored = crop(photo, mask, Change(mirrored=True))
    torch.testing.assert_close(mirrored, one.flip(2), atol=1e-4, rtol=0)
    turned = crop(photo, mask, Change(turn=(-1.0, 0.0)))
    torch.testing.assert_close(turned, one.flip((1, 2)), atol=1e-4, rtol=0)
    assert crop(photo, mask, Change(scale=2.0))[3].sum() == pytest.approx(float(one[3].sum()) / 4, rel=0.05)
    assert crop(photo, mask, Change(shift=(0.5, 0.0)))[3, : SIDE // 4].mean() > one[3, : SIDE // 4].mean()
    assert one[0, quarter, quarter] < 0


def test_what_lies_outside_of_the_photo_is_no_thing() -> None:
    photo, mask = np.full((30, 30, 3), 200, np.uint8), np.zeros((30, 30), bool)
    mask[:10, :10] = True
    one = crop(photo, mask)
    assert one[3, 0].max() < 0.1 and float(one[0].min()) == pytest.approx(200 / 127.5 - 1, abs=1e-4)
    assert crops(photo, []).shape == (0, 4, SIDE, SIDE)


def test_a_vector_has_length_one_and_does_not_know_its_company() -> None:
    photo, mask = square()
    other = np.roll(mask, 12, 0)
    both, alone = vectors(network(), photo, [mask, other]), vectors(network(), photo, [other])
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(both[1], alone[0], atol=1e-6)
    assert vectors(network(), photo, []).shape == (0, 8)


# --- what it is taught ----------------------------------------------------------------------------------------------


def shown(things: list[int], photos: list[int]) -> Shown:
    return Shown(torch.zeros(len(things), 4, 2, 2), torch.tensor(things), torch.tensor(photos))


def test_the_loss_wants_one_thing_in_two_photos_alike_and_others_apart() -> None:
    of = shown([1, 2, 1, 2], [0, 0, 1, 1])
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    good, bad = torch.stack([east, north, east, north]), torch.stack([east, north, north, east])
    assert contrast(good, of, 12.0) < 0.01 < 5 < contrast(bad, of, 12.0)
    assert first(good, of) == 1.0 and first(bad, of) == 0.0
    by_hand = -(12 - np.log(np.exp(12) + 2 * np.exp(0)))
    assert float(contrast(good, of, 12.0)) == pytest.approx(by_hand, abs=1e-4)
    copies = shown([1, 1, 1, 2], [0, 0, 1, 1])
    far = torch.stack([east, -east, east, north])
    near = torch.stack([east, east, east, north])
    assert contrast(far, copies, 12.0) > contrast(near, copies, 12.0), "each copy is like the thing in the other photo"
    alone = shown([1, 1, 2], [0, 0, 1])
    assert not torch.isfinite(contrast(torch.stack([east, east, north]), alone, 12.0)), "nothing is wanted there"


def test_a_steps_crops_are_those_of_its_families(tmp_path: Path) -> None:
    recipe = ReIdRecipe(scenes=12)
    draw_scenes(tmp_path / "scenes", recipe, lambda *_: None, "families")
    pools = read_pools(SceneFolder(tmp_path / "scenes", SIZES_HW))
    families = Families(pools)
    assert [len(each) for each in families.places] == [VIEWS, VIEWS]
    for number, places in enumerate(families.places):
        for pool, row in places:
            about = pools[pool].things[row]
            scene, members = family_scene(about["family"], about["view"])
            assert about["family"] == number and about["members"] == members
            assert np.array_equal(pools[pool].ids[row], numbered(scene))
    one, again, other = (draw(families, 2, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.crops, again.crops) and not torch.equal(one.crops[:5], other.crops[:5])
    assert len(one.crops) == len(one.things) == len(one.photos) and len(one.photos.unique()) == 2 * VIEWS
    thing = one.things[0]
    assert len(one.photos[one.things == thing].unique()) > 1, "a thing is in several photos"


def test_masks_are_worn_by_a_pixel_at_most() -> None:
    _, mask = square()
    sizes = {int(worn(mask, torch.Generator().manual_seed(seed)).sum()) for seed in range(40)}
    assert sizes == {18 * 18, 20 * 20, 22 * 22 - 4}


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_network_is_read_as_it_was_kept(tmp_path: Path) -> None:
    whole = network()
    save_network(whole, tmp_path)
    kept = load_network(tmp_path)
    assert kept.config == SMALL
    for name, value in whole.state_dict().items():
        assert torch.equal(kept.state_dict()[name], value.half().float())


def test_what_is_no_such_network_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"holds no network that knows things again: no config.json and"):
        load_network(tmp_path)
    save_network(network(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"kind": "prisbench-things"}, r"is not of a network that knows things again; train one with train-rival reid"),
        ({"widths": [16, 16]}, r"does not hold what its config.json says"),
        ({"size": "large"}, r"does not hold what its config.json says"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(BackboneError, match=message):
            load_network(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BackboneError, match=r"does not hold what its config.json says"):
        load_network(tmp_path)


def test_the_network_that_ships_is_what_its_card_says() -> None:
    facts = read_json(FOLDER / "card.json")
    weights = FOLDER / "model.safetensors"
    assert (FOLDER / "README.md").read_text() == card(facts) and weights.stat().st_size < 6_000_000
    assert facts["weights"] == sha256_file(weights)[:12] and Knower().folder == FOLDER
    assert set(facts["recipe"]) == {each.name for each in dataclasses.fields(ReIdRecipe)}
    found = quality("reid", FOLDER, 60, "a test")
    assert found["first"]["share"] > 0.7 and found["less_like"]["another noun"] > 0.9
