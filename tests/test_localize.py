"""From attention to answers: the arithmetic by pencil, the answers on a tiny pipeline of the real classes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from diffusers import UNet2DConditionModel

from prisbench.diffusion import encodings
from prisbench.diffusion.architectures import ARCHITECTURES
from prisbench.diffusion.attention import Attention, Recording, transformer_blocks
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import Geometry, encode_image
from prisbench.diffusion.loading import load_backbone
from prisbench.diffusion.noise import add_noise, noise
from prisbench.diffusion.prompts import TOKEN_GROUPS, Words, compose
from prisbench.diffusion.text import encode_text
from prisbench.errors import BackboneError, UnknownNameError, UsageError
from prisbench.images.photos import image_id
from prisbench.localizer import attend, evidence, texts
from prisbench.localizer.answer import calibrate, locate, observed_presence, predict
from prisbench.localizer.attend import rows_at_once
from prisbench.localizer.background import with_background
from prisbench.localizer.evidence import Found, strength
from prisbench.localizer.maps import boxes, consensus, min_max, self_cross
from prisbench.localizer.observe import Draw, Observation, cost, observe, observe_all
from prisbench.localizer.presence import calibration_key
from prisbench.localizer.presets import PRESETS, default_settings, preset
from prisbench.localizer.settings import Evidence, Places, are_timesteps
from prisbench.localizer.texts import COLUMNS, Reader, mirror
from prisbench.types import Concept, Query

PLAIN = dataclasses.replace(
    preset("accurate", "embedded"),
    tokens=("subject",),
    timesteps=(150,),
    samples=2,
    cross={"up.1.0": 1.0, "up.1.1": 1.0},
    hops=1,
    tau=0.4,
    refine="none",
    evidence=Evidence(),
    presence=None,
    caption=None,
    places=Places(),
)
"""Settings of the test's own, whatever numbers the preset holds today."""


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny.save(tmp_path_factory.mktemp("localize") / "tiny"))


@pytest.fixture(scope="module")
def concepts(backbone: Backbone) -> dict[str, Concept]:
    vectors = np.random.default_rng(0).normal(0, 0.02, (2, 24)).astype(np.float32)
    learned = Concept("l", "learned", "mug", "textual-inversion", backbone.id, {"vectors": vectors})
    return {"learned": learned, "noun": Concept("n", "noun", "mug", "noun-only")}


def photo(h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


QUERIES = [
    Query("a", "learned", "the {subject} on a desk"),
    Query("b", "noun", "the {subject} on a desk"),
    Query("c", "learned", "a {subject} left of the bowl"),
]


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("h", "w"), [(112, 144), (160, 96), (75, 130)])
def test_an_answer_is_the_same_bit_for_bit_whatever_else_is_asked(
    backbone: Backbone, concepts: dict[str, Concept], h: int, w: int
) -> None:
    image = photo(h, w)
    together = locate(backbone, image, QUERIES, concepts, PLAIN)
    locate(backbone, photo(h, w, 1), QUERIES[:1], concepts, PLAIN)
    alone = [locate(backbone, image, [query], concepts, PLAIN)[0] for query in reversed(QUERIES)][::-1]
    assert [p.query_id for p in together] == ["a", "b", "c"]
    for one, other in zip(together, alone, strict=True):
        assert one.mask is not None and one.score is not None and one.seconds is not None
        assert one.mask.shape == one.score.shape == (h, w)
        assert np.array_equal(one.score, other.score) and np.array_equal(one.mask, other.mask)  # type: ignore[arg-type]
        assert one.presence == other.presence and one.peak_yx == other.peak_yx
        assert one.score[one.peak_yx] == one.score.max() <= 1
        assert np.array_equal(one.mask, one.score > PLAIN.tau)
    assert not np.array_equal(together[0].score, together[1].score), "a learned vector changes the map"  # type: ignore[arg-type]


def test_one_observation_of_all_blocks_serves_many_settings(backbone: Backbone, concepts: dict[str, Concept]) -> None:
    image, wide = photo(112, 144), dataclasses.replace(PLAIN, timesteps=(50, 150), samples=3)
    blocks = list(transformer_blocks(backbone.unet))
    seen = observe(backbone, image, QUERIES[0], concepts["learned"], wide, blocks)
    assert seen.rows[:4] == (Draw(50, 0), Draw(50, 1), Draw(50, 2), Draw(150, 0))
    for settings in (
        PLAIN,
        dataclasses.replace(PLAIN, cross={"up.2.1": 2.0, "mid.0": 1.0}, hops=0),
        dataclasses.replace(PLAIN, tokens=("token", "phrase"), self_block="down.2.0", hops=2, theta=0.3),
        dataclasses.replace(PLAIN, timesteps=(50,), samples=3, rule="squared"),
    ):
        ours = predict(seen, image, "a", settings)
        (expected,) = locate(backbone, image, QUERIES[:1], concepts, settings)
        assert ours.score is not None and np.allclose(ours.score, expected.score, atol=1e-5)  # type: ignore[arg-type]
        assert ours.presence == pytest.approx(expected.presence, abs=1e-6)
    with pytest.raises(AssertionError, match="were not observed"):
        predict(seen, image, "a", dataclasses.replace(PLAIN, timesteps=(300,)))


def test_without_vectors_every_group_of_the_subject_is_the_noun(
    backbone: Backbone, concepts: dict[str, Concept]
) -> None:
    maps = observe(backbone, photo(112, 144), QUERIES[1], concepts["noun"], PLAIN).recording.cross["up.1.0"]
    token, noun, subject, phrase = (maps[:, 0, TOKEN_GROUPS.index(group)] for group in TOKEN_GROUPS)
    assert torch.equal(token, noun) and torch.equal(subject, noun)
    assert not torch.allclose(phrase, noun), "the phrase holds the desk too"


def test_several_groups_are_multiplied(backbone: Backbone, concepts: dict[str, Concept]) -> None:
    image = photo(112, 144)
    seen = observe(backbone, image, QUERIES[0], concepts["learned"], PLAIN)
    maps = self_cross(seen.recording, PLAIN, seen.geometry, [0, 3]).score
    both = predict(seen, image, "a", dataclasses.replace(PLAIN, tokens=("token", "phrase")))
    product = torch.nn.functional.interpolate((maps[0] * maps[1]).sqrt()[None, None], size=(112, 144), mode="bilinear")
    assert both.score is not None and np.allclose(both.score, product[0, 0], atol=1e-5)


WITH_EVIDENCE = dataclasses.replace(PLAIN, evidence=Evidence((400, 700), 2, ("noun", "nothing"), blur=0.05, power=0.5))


def test_the_evidence_is_how_much_better_the_subjects_words_predict_the_noise(
    backbone: Backbone, concepts: dict[str, Concept]
) -> None:
    image = photo(75, 130)
    seen = observe(backbone, image, QUERIES[0], concepts["learned"], WITH_EVIDENCE)
    against_noun, against_nothing = seen.evidence
    latents, geometry = encode_image(backbone, image)
    vectors = {"subject": torch.from_numpy(concepts["learned"].tensors["vectors"])}
    words = {"subject": Words("mug", 2)}, {"subject": Words("mug", 0)}, {}
    texts = ["the {subject} on a desk", "the {subject} on a desk", "the on a desk"]
    prompts = [
        compose(backbone.tokenizer, text, slots, PLAIN.template) for text, slots in zip(texts, words, strict=True)
    ]
    total = torch.zeros(2, *latents.shape[-2:])
    with torch.no_grad():
        heard = [encode_text(backbone, [prompt], vectors) for prompt in prompts]
        for t in (400, 700):
            for k in (0, 1):
                eps = noise(image_id(image), k, tuple(latents.shape[1:]))[None]
                noisy = add_noise(backbone.alphas_cumprod, latents, eps, torch.tensor([t]))
                subject, *rivals = (
                    (backbone.unet(noisy, t, encoder_hidden_states=text).sample - eps).square().sum(1)[0]
                    for text in heard
                )
                total += torch.stack([rival - subject for rival in rivals]) / 4
    h, w = geometry.valid_hw((total.shape[1], total.shape[2]))
    for found, expected in zip((against_noun, against_nothing), total, strict=True):
        assert found.grid_hw == tuple(expected.shape) != (h, w)
        assert torch.allclose(found.cells, expected[:h, :w], atol=1e-4) and expected.std() > 1e-4
    (alone,) = observe(backbone, image, QUERIES[1], concepts["noun"], WITH_EVIDENCE).evidence
    assert alone.grid_hw == against_noun.grid_hw, "a noun has no rival but nothing"
    only = dataclasses.replace(WITH_EVIDENCE, evidence=dataclasses.replace(WITH_EVIDENCE.evidence, against=("noun",)))
    assert observe(backbone, image, QUERIES[1], concepts["noun"], only).evidence == ()


def test_what_several_queries_leave_unsaid_alike_is_asked_once(
    backbone: Backbone, concepts: dict[str, Concept], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(WITH_EVIDENCE, evidence=Evidence((400,), 1))
    queries = [dataclasses.replace(query, text="the {subject} on a desk") for query in QUERIES]
    real, calls = evidence.errors, []
    monkeypatch.setattr(evidence, "errors", lambda *args: calls.append(1) or real(*args))
    alone = [observe_all(Reader(backbone, settings), photo(75, 130), [query], concepts)[0] for query in queries]
    assert len(calls) == 6
    together = observe_all(Reader(backbone, settings), photo(75, 130), queries, concepts)
    assert len(calls) == 6 + 3, "two subjects and one rival, where each query alone needs two"
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.evidence[0].cells, other.evidence[0].cells)


def test_queries_about_one_subject_share_the_evidence_that_is_asked_in_one_text(
    backbone: Backbone, concepts: dict[str, Concept], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, own = photo(75, 130), Evidence((400,), 1)
    common = dataclasses.replace(own, text="a photo of a {subject}")
    real, calls = evidence.errors, []
    monkeypatch.setattr(evidence, "errors", lambda *args: calls.append(1) or real(*args))
    one, other = (
        dataclasses.replace(QUERIES[0], id=text, text=text) for text in ("the {subject}", "my {subject} there")
    )
    of = {one.subject_id: dataclasses.replace(concepts["learned"], subject_id=one.subject_id)}
    counts = {}
    for name, each in (("own", own), ("common", common)):
        calls.clear()
        seen = observe_all(Reader(backbone, dataclasses.replace(WITH_EVIDENCE, evidence=each)), image, [one, other], of)
        counts[name] = len(calls)
        same = torch.equal(seen[0].evidence[0].cells, seen[1].evidence[0].cells)
        assert same == (name == "common")
    assert counts == {"own": 4, "common": 2}
    plain = dataclasses.replace(one, text="a photo of a {subject}")
    asked = observe(backbone, image, plain, concepts["learned"], dataclasses.replace(WITH_EVIDENCE, evidence=own))
    assert torch.equal(asked.evidence[0].cells, seen[0].evidence[0].cells)
    with pytest.raises(UsageError, match="subject"):
        observe(
            backbone,
            image,
            one,
            concepts["learned"],
            dataclasses.replace(WITH_EVIDENCE, evidence=dataclasses.replace(own, text="a photo of nothing")),
        )


def test_evidence_draws_the_map_to_where_it_is_found_and_a_power_of_zero_leaves_it(
    backbone: Backbone, concepts: dict[str, Concept]
) -> None:
    image = photo(112, 144)
    seen = observe(backbone, image, QUERIES[0], concepts["learned"], WITH_EVIDENCE)
    plain = predict(seen, image, "a", PLAIN).score
    spot = torch.zeros(28, 36)
    spot[20, 30] = 9.0
    there = predict(dataclasses.replace(seen, evidence=(Found(spot, (28, 36)),)), image, "a", WITH_EVIDENCE)
    assert there.peak_yx is not None and abs(there.peak_yx[0] - 82) < 16 and abs(there.peak_yx[1] - 122) < 16
    nothing = predict(dataclasses.replace(seen, evidence=(Found(-spot, (28, 36)),)), image, "a", WITH_EVIDENCE).score
    off = dataclasses.replace(WITH_EVIDENCE, evidence=dataclasses.replace(WITH_EVIDENCE.evidence, power=0.0))
    for same in (nothing, predict(seen, image, "a", off).score):
        assert np.array_equal(same, plain)  # type: ignore[arg-type]


def test_below_its_share_of_what_the_own_photos_show_the_answer_is_not_here(
    backbone: Backbone, concepts: dict[str, Concept]
) -> None:
    own, image = [photo(96, 112, seed) for seed in (5, 6, 7)], photo(112, 144)
    learned = calibrate(backbone, concepts["learned"], own, WITH_EVIDENCE)
    (typical,) = learned.calibration.values()
    each = []
    for one in own:
        query = Query("q", "learned", "a photo of a {subject}")
        found = observe(backbone, one, query, learned, WITH_EVIDENCE).evidence
        each.append(strength(found[0].cells, WITH_EVIDENCE.evidence))
    assert typical == pytest.approx(sorted(each)[1]) and typical > 0

    (there,) = locate(backbone, image, QUERIES[:1], {"learned": learned}, WITH_EVIDENCE)
    assert there.presence is not None and 0 < there.presence < 1 and there.mask is not None
    for threshold, present in ((there.presence - 1e-6, True), (there.presence + 1e-6, False)):
        settings = dataclasses.replace(WITH_EVIDENCE, presence=threshold)
        (answer,) = locate(backbone, image, QUERIES[:1], {"learned": learned}, settings)
        assert (answer.mask is not None) is present
        assert answer.presence == there.presence and answer.peak_yx == there.peak_yx
        (never,) = locate(backbone, image, QUERIES[:1], concepts, settings)
        assert never.mask is not None, "a concept that was never calibrated cannot say not here"

    assert calibrate(backbone, learned, own[:1], WITH_EVIDENCE) is learned
    only = dataclasses.replace(WITH_EVIDENCE, evidence=dataclasses.replace(WITH_EVIDENCE.evidence, against=("noun",)))
    assert calibrate(backbone, concepts["noun"], own, only) is concepts["noun"], "no rival, no belief"
    assert calibrate(backbone, concepts["noun"], own, WITH_EVIDENCE).calibration, "is there a mug at all?"
    assert calibrate(backbone, concepts["learned"], own, PLAIN) is concepts["learned"]
    other = dataclasses.replace(WITH_EVIDENCE, evidence=Evidence((300,)))
    assert calibration_key(other) != calibration_key(WITH_EVIDENCE)


def test_attention_to_the_learned_words_has_a_say_in_whether_the_subject_is_there(
    backbone: Backbone, concepts: dict[str, Concept]
) -> None:
    both = dataclasses.replace(WITH_EVIDENCE, evidence=dataclasses.replace(WITH_EVIDENCE.evidence, attention=2.0))
    image = photo(75, 130)
    seen = observe(backbone, image, QUERIES[0], concepts["learned"], both)
    blocks = [seen.recording.cross[name][:, 0, TOKEN_GROUPS.index("token")] for name in both.cross]
    h, w = seen.geometry.valid_hw((blocks[0].shape[1], blocks[0].shape[2]))
    assert blocks[0].shape == blocks[1].shape and (h, w) != blocks[0].shape[1:], "some of the grid is padding"
    peak = float(torch.stack(blocks).mean(0)[:, :h, :w].amax((-2, -1)).mean())
    found = strength(seen.evidence[0].cells, both.evidence)
    assert observed_presence(seen, both) == pytest.approx(found * peak**2, rel=1e-5) and 0 < peak < 1
    assert observed_presence(seen, WITH_EVIDENCE) == found, "a power of zero leaves it out"

    own = [photo(96, 112, 5)]
    learned = calibrate(backbone, concepts["learned"], own, both)
    query = Query("q", "learned", "a photo of a {subject}")
    typical = observed_presence(observe(backbone, own[0], query, learned, both), both)
    assert learned.calibration == {calibration_key(both): pytest.approx(typical)}
    (answer,) = locate(backbone, image, QUERIES[:1], {"learned": learned}, both)
    assert answer.presence == pytest.approx(found * peak**2 / (found * peak**2 + typical), rel=1e-4)
    keys = {calibration_key(dataclasses.replace(both, samples=n, tau=n / 10)) for n in (1, 2)}
    assert len(keys) == 2 and len({calibration_key(dataclasses.replace(both, tau=n / 10)) for n in (1, 2)}) == 1


def test_one_pass_on_a_caption_serves_all_queries_as_it_would_each(
    backbone: Backbone, concepts: dict[str, Concept]
) -> None:
    settings = dataclasses.replace(PLAIN, caption="a photo", contrast_noun=0.3)
    image, passes = photo(112, 144), []
    handle = backbone.unet.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        together = locate(backbone, image, QUERIES, concepts, settings)
        assert len(passes) == 1
        alone = [locate(backbone, image, [query], concepts, settings)[0] for query in QUERIES]
    finally:
        handle.remove()
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.score, other.score)  # type: ignore[arg-type]
    assert not np.array_equal(together[0].score, together[1].score)  # type: ignore[arg-type]
    own = locate(backbone, image, QUERIES[:1], concepts, dataclasses.replace(settings, caption=None))[0]
    assert not np.array_equal(own.score, together[0].score), "the query's own pass says something else"  # type: ignore[arg-type]
    query = dataclasses.replace(settings, caption="the mug on a desk", template="{text}", contrast_noun=0.0)
    same = [
        locate(backbone, image, QUERIES[1:2], concepts, each)[0].score
        for each in (query, dataclasses.replace(query, caption=None))
    ]
    assert np.allclose(same[0], same[1], atol=1e-4), "captioned by the query itself, both are one"  # type: ignore[arg-type]


def test_contrasts_are_the_bare_noun_in_the_same_text_and_other_subjects_of_that_noun(
    backbone: Backbone, concepts: dict[str, Concept]
) -> None:
    rival = dataclasses.replace(
        concepts["learned"], id="r", subject_id="rival", tensors={"vectors": np.ones((1, 24), np.float32)}
    )
    bowl = dataclasses.replace(rival, subject_id="bowl", noun="bowl")
    blocks = list(PLAIN.cross)
    known = concepts | {"rival": rival, "bowl": bowl}
    (seen,) = observe_all(Reader(backbone, PLAIN), photo(112, 144), QUERIES[:1], known, blocks)
    columns = dict(zip(COLUMNS, seen.recording.cross["up.1.0"].unbind(2), strict=True))
    assert all(columns[name].std() > 0 for name in COLUMNS)
    same = dataclasses.replace(PLAIN, caption=None)
    (none,) = observe_all(Reader(backbone, same), photo(112, 144), QUERIES[:1], concepts)
    assert none.recording.cross["up.1.0"][:, :, COLUMNS.index("bare") :].abs().max() == 0, "nobody asked"

    for change in ({"contrast_noun": 0.5}, {"contrast_others": 0.5}):
        settings = dataclasses.replace(PLAIN, hops=0, **change)  # type: ignore[arg-type]
        maps = self_cross(seen.recording, settings, seen.geometry, [COLUMNS.index("subject")])
        name = "bare" if "contrast_noun" in change else "others"
        stack = torch.stack([seen.recording.cross[block] for block in blocks]).mean(0)[:, 0]
        expected = (stack[:, COLUMNS.index("subject")] - 0.5 * stack[:, COLUMNS.index(name)]).clamp(min=0)
        assert torch.allclose(maps.score[0], min_max(expected).mean(0), atol=1e-5)


def test_shares_are_of_all_content_words_and_of_those_alone(backbone: Backbone, concepts: dict[str, Concept]) -> None:
    settings = dataclasses.replace(PLAIN, share=True, hops=0, template="a photo of {text}, bowl")
    seen = observe(backbone, photo(112, 144), QUERIES[1], concepts["noun"], settings)
    maps = self_cross(seen.recording, settings, seen.geometry, [COLUMNS.index("subject")])
    stack = torch.stack([seen.recording.cross[block] for block in settings.cross]).mean(0)[:, 0]
    noun, content = stack[:, COLUMNS.index("subject")], stack[:, COLUMNS.index("content")]
    assert (content > noun).all(), "desk and the template's bowl are content, too"
    assert torch.allclose(maps.score[0], min_max(noun / content).mean(0), atol=1e-5)


def test_the_mirror_image_says_the_same_from_the_other_side(backbone: Backbone, concepts: dict[str, Concept]) -> None:
    assert mirror("the mug left of the right bottle, upright") == "the mug right of the left bottle, upright"
    image, settings = photo(112, 144), dataclasses.replace(PLAIN, flip=True, hops=0)
    flipped = np.ascontiguousarray(image[:, ::-1])
    swapped = [dataclasses.replace(QUERIES[2], text=mirror(QUERIES[2].text))]
    (one,) = locate(backbone, image, QUERIES[2:], concepts, settings)
    (other,) = locate(backbone, flipped, swapped, concepts, settings)
    assert np.allclose(one.score, other.score[:, ::-1], atol=1e-5)  # type: ignore[index]
    reading = dataclasses.replace(settings, places=Places(power=1.0, silence=1.0))
    (one,) = locate(backbone, image, QUERIES[2:], concepts, reading)
    (other,) = locate(backbone, flipped, swapped, concepts, reading)
    assert np.allclose(one.score, other.score[:, ::-1], atol=1e-4), "what the text says of place is mirrored, too"  # type: ignore[index]
    (plain,) = locate(backbone, image, QUERIES[2:], concepts, dataclasses.replace(settings, flip=False))
    assert not np.allclose(one.score, plain.score, atol=1e-3)  # type: ignore[arg-type]


def test_a_consensus_gives_most_to_those_that_agree_and_none_to_those_that_contradict() -> None:
    ramp = torch.linspace(0, 1, 12).reshape(3, 4)
    bump = torch.zeros(3, 4)
    bump[1, 1] = 1
    alike = [ramp, ramp + 0.1 * bump, ramp + 0.05 * bump]
    stack = torch.stack([*alike, 1 - ramp, torch.zeros(3, 4)])[None, :, None]
    weights = consensus(stack, torch.full((5,), 0.2))
    assert weights.sum() == pytest.approx(1) and weights[:3].min() > 0.3 and weights[3:].max() == 0
    assert torch.equal(consensus(torch.zeros(1, 2, 1, 3, 4), torch.tensor([0.5, 0.5])), torch.tensor([0.5, 0.5]))


def test_encodings_are_kept_and_change_nothing(
    backbone: Backbone, concepts: dict[str, Concept], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, settings = photo(75, 130), dataclasses.replace(WITH_EVIDENCE, caption="a photo")
    fresh = locate(backbone, image, QUERIES, concepts, settings)
    first = locate(backbone, image, QUERIES, concepts, settings, tmp_path / "encodings")
    kept = sorted((tmp_path / "encodings").rglob("*.safetensors"))
    assert len(kept) > 3
    monkeypatch.setattr(encodings, "encode_image", None)
    monkeypatch.setattr(texts, "condition", None)
    again = locate(backbone, image, QUERIES, concepts, settings, tmp_path / "encodings")
    for a, b, c in zip(fresh, first, again, strict=True):
        assert np.array_equal(a.score, b.score) and np.array_equal(a.score, c.score)  # type: ignore[arg-type]
    monkeypatch.undo()
    for path in kept:
        path.write_bytes(path.read_bytes()[:40])
    mended = locate(backbone, image, QUERIES, concepts, settings, tmp_path / "encodings")
    assert np.array_equal(mended[0].score, fresh[0].score)  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    nowhere = locate(backbone, image, QUERIES, concepts, settings, tmp_path / "file" / "encodings")
    assert np.array_equal(nowhere[0].score, fresh[0].score)  # type: ignore[arg-type]


def test_noises_are_batched_within_the_memory_budget(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows_at_once(backbone.unet, (28, 36)) > rows_at_once(backbone.unet, (56, 72)) >= 1
    monkeypatch.setattr(attend, "ROWS_BYTES", 1)
    assert rows_at_once(backbone.unet, (28, 36)) == 1
    assert "8 noises a query in batches of 1" in cost(
        backbone, dataclasses.replace(PLAIN, samples=4, flip=True), (112, 144)
    )


def test_presence_is_attention_before_any_scaling() -> None:
    image, geometry = photo(40, 60), Geometry((40, 60), (40, 60), (48, 64))
    settings = dataclasses.replace(PLAIN, cross={"x": 1.0}, hops=0, samples=2)
    cross = torch.zeros(2, 1, len(COLUMNS), 6, 8)
    cross[:, 0, COLUMNS.index("subject"), 2, 3] = torch.tensor([0.4, 0.2])
    cross[:, :, :, -1] = 9.0  # the row of padding
    rows = (Draw(150, 0), Draw(150, 1))
    strong, faint = (
        predict(Observation(Recording({"x": cross * factor}), rows, geometry), image, "q", settings)
        for factor in (1, 0.1)
    )
    assert strong.presence == pytest.approx(0.3) and faint.presence == pytest.approx(0.03)
    assert strong.mask is not None and strong.mask.any() and np.array_equal(strong.mask, faint.mask)  # type: ignore[arg-type]


def test_the_crf_refines_the_mask_and_leaves_the_map(backbone: Backbone, concepts: dict[str, Concept]) -> None:
    pytest.importorskip("pydensecrf", reason="the extra 'crf' is not installed")
    image = photo(112, 144)
    (plain,) = locate(backbone, image, QUERIES[:1], concepts, PLAIN)
    (refined,) = locate(backbone, image, QUERIES[:1], concepts, dataclasses.replace(PLAIN, refine="crf"))
    assert np.array_equal(plain.score, refined.score) and plain.peak_yx == refined.peak_yx  # type: ignore[arg-type]
    assert not np.array_equal(plain.mask, refined.mask)  # type: ignore[arg-type]


def test_a_concept_of_another_backbone_is_refused_naming_both(backbone: Backbone) -> None:
    foreign = Concept("f", "learned", "mug", "textual-inversion", "sd@123", {"vectors": np.zeros((1, 24), np.float32)})
    with pytest.raises(BackboneError, match=rf"concept f of 'learned' was learned on sd@123, not on {backbone.id}"):
        locate(backbone, photo(112, 144), QUERIES[:1], {"learned": foreign}, PLAIN)
    narrow = dataclasses.replace(foreign, backbone=backbone.id, tensors={"vectors": np.zeros((1, 9), np.float32)})
    with pytest.raises(BackboneError, match=r"concept f: vectors of shape \(1, 9\) do not fit"):
        locate(backbone, photo(112, 144), QUERIES[:1], {"learned": narrow}, PLAIN)


def test_a_preset_for_other_blocks_and_a_text_without_slot_are_refused(
    backbone: Backbone, concepts: dict[str, Concept]
) -> None:
    assert default_settings(backbone) == preset("accurate", "embedded")
    strange = dataclasses.replace(backbone, family="other")
    with pytest.raises(BackboneError, match=rf"{backbone.id}: no preset knows this U-Net's blocks \(down.1.0, "):
        default_settings(strange)
    other = dataclasses.replace(PLAIN, cross={"up.3.0": 1.0})
    with pytest.raises(BackboneError, match=rf"{backbone.id} has no block up.3.0; its blocks: down.1.0, .*up.2.1"):
        locate(backbone, photo(112, 144), QUERIES[:1], concepts, other)
    with pytest.raises(UsageError, match=r"'a mug' must hold \{subject\} once"):
        locate(backbone, photo(112, 144), [Query("q", "noun", "a mug")], concepts, PLAIN)


# --- arithmetic -----------------------------------------------------------------------------------------------------


def test_min_max_scales_each_map_and_a_flat_map_is_zero() -> None:
    maps = torch.tensor([[[1.0, 3.0, 5.0]], [[7.0, 7.0, 7.0]]])
    assert min_max(maps).tolist() == [[[0.0, 0.5, 1.0]], [[0.0, 0.0, 0.0]]]


def test_boxes_hold_each_connected_part_and_the_published_ones_lack_the_last_row_and_column() -> None:
    rows = ["1.....", ".1....", "......", "...1.1", "...111"]
    maps = torch.tensor([[float(cell == "1") for cell in row] for row in rows])[None, None]
    ours = ["11....", "11....", "......", "...111", "...111"]
    published = ["11....", "11....", "......", "...11.", "......"]
    for quirk, expected in ((False, ours), (True, published)):
        drawn = ["".join("1" if v else "." for v in row) for row in boxes(maps, 0.2, quirk)[0, 0].tolist()]
        assert drawn == expected
    levels = torch.tensor([[[[0.0, 0.19, 0.3, 1.0]]]])
    assert boxes(levels, 0.2, False)[0, 0].tolist() == [[0, 0, 1, 1]]


def test_the_threshold_rule_cuts_at_tau_and_the_squared_rule_where_the_paper_does() -> None:
    maps = torch.linspace(0, 1, 1001)[None, None]
    for tau in (0.2, 0.4, 0.7):
        scores = torch.from_numpy(with_background(maps.numpy(), "threshold", tau))
        assert torch.equal(scores[1] > scores[0], maps[0] > tau)
        assert torch.allclose(scores.sum(0), torch.ones(1)) and scores.min() >= 0
    for tau, cut in ((0.5, 0.382), (0.35, 0.225)):
        scores = torch.from_numpy(with_background(maps.numpy(), "squared", tau))
        assert maps[0][scores[1] > scores[0]].min() == pytest.approx(cut, abs=2e-3)


def test_padding_takes_no_attention_and_no_part_in_scaling() -> None:
    torch.manual_seed(0)
    grid, valid = (4, 6), (3, 5)
    attention = Attention(torch.randn(1, 2, 24, 4), torch.randn(1, 2, 24, 4), 0.5, grid)
    cross = torch.rand(1, 1, 1, *grid)
    cross[..., -1] = 100
    settings = dataclasses.replace(PLAIN, cross={"x": 1.0}, self_block="s")
    geometry = Geometry((40, 75), (24, 40), (32, 48))
    assert geometry.valid_hw(grid) == valid
    inside = torch.zeros(grid, dtype=torch.bool)
    inside[:3, :5] = True
    logits = (attention.queries @ attention.keys.mT * 0.5).masked_fill(~inside.flatten(), -torch.inf)
    expected = (logits.softmax(-1).mean(1) @ torch.zeros(24).masked_scatter(
        inside.flatten(), min_max(cross[0, ..., :3, :5])
    )).unflatten(-1, grid)[:, :3, :5]  # fmt: skip
    maps = self_cross(Recording({"x": cross}, {"s": attention}), settings, geometry)
    assert maps.grid_hw == grid
    assert torch.allclose(maps.score, min_max(expected), atol=1e-5)


def test_block_weights_are_shares_and_coarse_blocks_are_enlarged() -> None:
    settings = dataclasses.replace(PLAIN, cross={"fine": 3.0, "coarse": 1.0}, hops=0)
    recording = Recording({"fine": torch.zeros(1, 1, 1, 4, 6), "coarse": torch.full((1, 2, 1, 2, 3), 0.8)})
    maps = self_cross(recording, settings)
    assert maps.grid_hw == (4, 6)
    assert torch.allclose(maps.raw, torch.full((1, 1, 4, 6), 0.2))


@pytest.mark.parametrize(
    "change",
    [
        {"tau": 1.5},
        {"tokens": ("mug",)},
        {"tokens": ()},
        {"samples": 0},
        {"timesteps": ()},
        {"cross": {}},
        {"rule": "otsu"},
        {"refine": "sam"},
        {"template": "a photo"},
        {"working_size": "huge"},
        {"theta": 1.0},
        {"weights": "learned"},
        {"contrast_noun": -1.0},
        {"presence": 0.0},
        {"evidence": Evidence((-5,))},
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(UsageError, match=rf"localizer.{name}=.* makes no sense"):
        dataclasses.replace(PLAIN, **change)


def test_timesteps_are_whole_numbers() -> None:
    assert are_timesteps((0, 300)) and are_timesteps(())
    assert not any(are_timesteps(each) for each in (("x",), (True,), (1.5,), (-1,), (None,)))


def test_presets_are_plain_data_and_an_unknown_one_offers_the_nearest() -> None:
    import json

    for family, named in PRESETS.items():
        published = {"paper"} if family in ("embedded", "sd", "sdxl") else set()
        between = {"balanced"} if published or family == "embedded-dit" else set()
        assert set(named) == {"fast", "accurate"} | published | between, family
        for settings in named.values():
            assert json.loads(json.dumps(settings.as_record()))["timesteps"] == list(settings.timesteps)
        assert named["fast"].caption is not None and not named["fast"].evidence, "one pass, and no other"
        if not between:
            continue
        assert 2 * len(named["balanced"].evidence.timesteps) == len(named["accurate"].evidence.timesteps)
    with pytest.raises(UnknownNameError, match="unknown localizer preset 'papr': did you mean 'paper'"):
        preset("papr", "sd")
    with pytest.raises(UnknownNameError, match="unknown backbone family 'other'"):
        preset("paper", "other")


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_the_blocks_of_a_family_are_there_at_full_size(family: str) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**ARCHITECTURES["sd15-random" if family == "sd" else "sdxl-random"].unet)
    blocks = transformer_blocks(unet)
    for settings in PRESETS[family].values():
        assert {*settings.cross, settings.self_block} <= set(blocks)
        assert blocks[settings.self_block].has_self_attention
