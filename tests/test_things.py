"""The network that finds things: what it is taught, how its maps become regions, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from prisbench.embedded.rivals.card import card
from prisbench.embedded.rivals.quality import quality
from prisbench.embedded.rivals.recipes import ThingsRecipe
from prisbench.embedded.rivals.things import recoloured, targets
from prisbench.embedded.scenes import numbered
from prisbench.errors import BackboneError
from prisbench.images.regions import iou
from prisbench.runtime.files import read_json, sha256_file
from prisbench.tabletop.captions import ordinary_scene
from prisbench.things.network import Config, Seen, ThingsNet, load_network, save_network, see
from prisbench.things.regions import FOLDER, LEAST, Finder, grouped, regions_of

SMALL = Config((8, 8, 16))


def network() -> ThingsNet:
    torch.manual_seed(0)
    return ThingsNet(SMALL).eval()


def taught(ids: np.ndarray) -> Seen:
    """What a network would see that learned its targets to the letter."""
    thing, middle, way = targets(ids, 1.0)
    logits = [torch.logit(torch.from_numpy(each), 1e-4)[None] for each in (thing, middle)]
    return Seen(logits[0], logits[1], torch.from_numpy(way)[None])


def two_boxes() -> np.ndarray:
    ids = np.zeros((40, 60), np.uint8)
    ids[4:20, 10:30], ids[4:20, 30:50] = 1, 2
    return ids


def test_each_pixel_points_to_the_middle_of_its_own_thing() -> None:
    ids = two_boxes()
    thing, middle, way = targets(ids, 4.0)
    assert thing.shape == (40, 60) and way.shape == (2, 40, 60)
    np.testing.assert_array_equal(thing, ids > 0)
    rows, columns = np.indices((40, 60))
    for number, (y, x) in {1: (11.5, 19.5), 2: (11.5, 39.5)}.items():
        inside = ids == number
        np.testing.assert_allclose(rows[inside] + way[0][inside] * 4.0, y, atol=1e-5)
        np.testing.assert_allclose(columns[inside] + way[1][inside] * 4.0, x, atol=1e-5)
        assert middle[int(y), int(x)] > 0.9
    assert middle[36, 10] < 1e-3 and not way[:, thing == 0].any()


def test_things_that_touch_come_apart_and_none_is_in_two_regions() -> None:
    ids = two_boxes()
    found = grouped(taught(ids))
    assert len(found) == 2 and np.sum(found, axis=0).max() == 1
    assert sorted(max(iou(each, ids == number) for each in found) for number in (1, 2))[0] > 0.95


def test_maps_as_they_are_taught_give_a_scenes_things_back() -> None:
    ious = []
    for n in range(12):
        scene, _ = ordinary_scene(f"a test of things/{n}")
        found = grouped(taught(numbered(scene)))
        ious += [
            max((iou(each, mask) for each in found), default=0.0) for mask in scene.masks if mask.sum() > 4 * LEAST
        ]
    assert np.mean(ious) > 0.98, ious


def test_without_a_middle_each_connected_part_is_a_thing() -> None:
    seen = taught(two_boxes())
    blind = Seen(seen.thing, torch.full_like(seen.middle, -9.0), seen.way)
    (both,) = grouped(blind)
    np.testing.assert_array_equal(both, two_boxes() > 0)
    assert grouped(Seen(torch.full_like(seen.thing, -9.0), blind.middle, seen.way)) == []


@pytest.mark.parametrize("size_hw", [(33, 47), (16, 90), (112, 144)])
def test_regions_have_the_photos_size_whatever_it_is(size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (*size_hw, 3), np.uint8)
    seen = see(network(), torch.from_numpy(photo))
    assert seen.thing.shape == (1, *size_hw) and seen.way.shape == (1, 2, *size_hw)
    assert all(each.shape == size_hw and each.dtype == bool for each in regions_of(network(), photo))


def test_a_mirrored_photo_shows_the_mirror_image() -> None:
    photo = torch.randint(0, 256, (32, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    one, other = see(network(), photo), see(network(), photo.flip(1))
    torch.testing.assert_close(other.thing, one.thing.flip(2))
    torch.testing.assert_close(other.way[:, 0], one.way[:, 0].flip(2))
    torch.testing.assert_close(other.way[:, 1], -one.way[:, 1].flip(2))
    assert not torch.equal(one.thing, one.thing.flip(2))


def test_the_way_is_told_in_pixels() -> None:
    near, far = (ThingsNet(dataclasses.replace(SMALL, reach=reach)).eval() for reach in (1.0, 5.0))
    far.load_state_dict(near.state_dict())
    photo = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(see(far, photo).way, 5 * see(near, photo).way)


def test_light_changes_by_lot_and_things_stay_where_they_are() -> None:
    photos = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.5
    one, again, other = (recoloured(photos, torch.Generator().manual_seed(seed)) for seed in (2, 2, 3))
    assert torch.equal(one, again) and not torch.equal(one, other) and one.shape == photos.shape


def test_a_network_is_read_as_it_was_kept(tmp_path: Path) -> None:
    whole = network()
    save_network(whole, tmp_path)
    kept = load_network(tmp_path)
    assert kept.config == SMALL
    for name, value in whole.state_dict().items():
        assert torch.equal(kept.state_dict()[name], value.half().float())


def test_what_is_no_such_network_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"holds no network that finds things: no config.json and"):
        load_network(tmp_path)
    save_network(network(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"kind": "sam"}, r"is not of a network that finds things; train one with train-rival things"),
        ({"widths": [8, 16, 16]}, r"does not hold what its config.json says"),
        ({"widths": "wide"}, r"does not hold what its config.json says"),
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
    assert facts["weights"] == sha256_file(weights)[:12] and Finder().folder == FOLDER
    assert set(facts["recipe"]) == {each.name for each in dataclasses.fields(ThingsRecipe)}
    found = quality("things", FOLDER, 6, "a test of the finder")
    assert found["region"]["iou_mean"] > 0.75 and found["at_half"] > 0.8 and 0.8 < found["regions"] < 1.2
