"""Detectors and Segment Anything on tiny random models of the real classes: frames, boxes, and the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from test_persam import tiny_sam
from test_trial import checks
from transformers import (
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
)

from prisbench.detection.boxes import Boxes, from_centres, overlap
from prisbench.detection.grounding_dino import GroundingDino, caption
from prisbench.detection.owlv2 import Owlv2
from prisbench.errors import BackboneError, UnknownNameError, UsageError
from prisbench.methods import load_method
from prisbench.settings import MethodOptions
from prisbench.trial.scenes import draw_set
from prisbench.types import GivesCandidates, Query, Subject
from tests.drawing import draw_box, draw_scene

SCENE = draw_scene(2, (52, 36))
PHOTO, MASK = draw_scene(1, (30, 50)), draw_box((30, 50), 6, 10, 24, 32)
SUBJECT = Subject("s", "mug", (draw_scene(9, (20, 30)), PHOTO), (None, MASK))


def bert_words() -> dict[str, int]:
    """A vocabulary with the special tokens where Grounding DINO expects them; other words are spelled."""
    places = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    places |= {word: 200 + n for n, word in enumerate(("mug", "the", "of", "left", "bowl", "a", "photo"))}
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
    places |= {letter: 300 + n for n, letter in enumerate(letters)}
    places |= {f"##{letter}": 400 + n for n, letter in enumerate(letters)}
    taken = set(places.values())
    return {f"[unused{n}]": n for n in range(1100) if n not in taken} | places


def shaken(network: Any, by: float) -> Any:
    """Random weights whose answers depend on what comes in."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        for name, weight in network.named_parameters():
            if weight.is_floating_point() and "norm" not in name:
                weight += torch.randn_like(weight) * by
    return network.eval()


def save_grounding_dino(folder: Path) -> str:
    config = GroundingDinoConfig(
        backbone_config=dict(
            model_type="swin", image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=4,
            out_indices=[2, 3, 4],
        ),
        text_config=dict(
            model_type="bert", vocab_size=1100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=64,
        ),
        num_queries=7, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        encoder_attention_heads=2, decoder_attention_heads=2, d_model=32, max_text_len=60, disable_custom_kernels=True,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = shaken(GroundingDinoForObjectDetection(config), 0.1)
    network.save_pretrained(folder)
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 128})
    GroundingDinoProcessor(images, BertTokenizer(vocab=bert_words())).save_pretrained(folder)
    return str(folder)


def save_owlv2(folder: Path) -> str:
    words = tiny.tokenizer(length=16)
    config = Owlv2Config(
        text_config=dict(
            vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=16,
        ),
        vision_config=dict(
            hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=64,
            patch_size=8,
        ),
        projection_dim=16,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = shaken(Owlv2ForObjectDetection(config), 0.1)
        with torch.no_grad():
            network.box_head.dense2.weight *= 0.05  # boxes stay near their cells
    network.save_pretrained(folder)
    Owlv2ImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return str(folder)


SAVERS = {"grounding-dino": save_grounding_dino, "owlv2-image-guided": save_owlv2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    top = tmp_path_factory.mktemp("detectors")
    tiny_sam().save_pretrained(top / "sam")
    return {"sam": str(top / "sam"), **{name: save(top / name) for name, save in SAVERS.items()}}


def options(folders: dict[str, str], name: str, **more: Any) -> MethodOptions:
    return MethodOptions(model=folders[name], settings={"sam": folders["sam"], **more})


# --- boxes ----------------------------------------------------------------------------------------------------------


def test_boxes_are_shares_of_the_photo_or_of_its_padded_square() -> None:
    centred = np.array([[0.5, 0.5, 0.5, 0.25]])
    assert from_centres(centred, (40, 80), (40, 80)).tolist() == [[20, 15, 60, 25]]
    assert from_centres(centred, (80, 80), (40, 80)).tolist() == [[20, 30, 60, 40]], "cut off at the photo's border"


def test_of_boxes_that_say_the_same_the_surest_stays() -> None:
    boxes = Boxes(
        np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [5, 5, 5, 5.0]]), np.array([0.4, 0.6, 0.5, 0.1])
    )
    best = boxes.best_first(0.0, 9)
    assert best.scores.tolist() == [0.6, 0.5, 0.1] and best.xyxy[0].tolist() == [0, 0, 10, 9]
    assert boxes.best_first(0.45, 9).scores.tolist() == [0.6, 0.5] and len(boxes.best_first(0.0, 1).scores) == 1
    assert overlap(boxes.xyxy, boxes.xyxy[:1]).tolist() == [1.0, 0.9, 0.0, 0.0]


def test_a_caption_ends_with_one_full_stop_as_the_model_was_trained() -> None:
    assert caption("The {subject} left of a Bowl?", "mug") == "the mug left of a bowl."
    assert caption("{subject}", "coffee mug") == "coffee mug."


# --- the detectors' arithmetic is the libraries' ---------------------------------------------------------------------


def test_grounding_dinos_boxes_are_the_librarys_in_a_scene_that_is_not_square(folders: dict[str, str]) -> None:
    where = folders["grounding-dino"]
    detector = GroundingDino(where, "cpu", "text")
    seen = detector.look(SCENE)
    found = detector.find(seen, "the {subject} left of a bowl", detector.learn(SUBJECT))
    network = GroundingDinoForObjectDetection.from_pretrained(where).eval()
    processor = GroundingDinoProcessor(
        GroundingDinoImageProcessorPil.from_pretrained(where), BertTokenizer.from_pretrained(where)
    )
    inputs = processor(images=SCENE, text="the mug left of a bowl.", return_tensors="pt")
    with torch.no_grad():
        out = network(**inputs)
    (read,) = processor.post_process_grounded_object_detection(
        out, inputs["input_ids"], threshold=0.0, text_threshold=0.0, target_sizes=[SCENE.shape[:2]]
    )
    limits = np.array([36, 52, 36, 52])
    np.testing.assert_allclose(found.xyxy, read["boxes"].numpy().clip(0, limits), atol=1e-3)
    np.testing.assert_allclose(found.scores, read["scores"].numpy(), atol=1e-5)


def test_owlv2_without_masks_is_the_librarys_image_guided_detection(folders: dict[str, str]) -> None:
    where = folders["owlv2-image-guided"]
    detector = Owlv2(where, "cpu")
    found = detector.find(detector.look(SCENE), "", detector.learn(Subject("s", "mug", (PHOTO,))))
    network = Owlv2ForObjectDetection.from_pretrained(where).eval()
    images = Owlv2ImageProcessorPil.from_pretrained(where)
    scene, photo = (images(images=[each], return_tensors="pt")["pixel_values"].float() for each in (SCENE, PHOTO))
    with torch.no_grad():
        out = network.image_guided_detection(pixel_values=scene, query_pixel_values=photo)
    (read,) = images.post_process_image_guided_detection(
        out, threshold=0.0, nms_threshold=1.0, target_sizes=torch.tensor([SCENE.shape[:2]])
    )
    scores = out.logits[0, :, 0].sigmoid().numpy()
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    best = int(read["scores"].argmax())
    limits = np.array([36, 52, 36, 52])
    np.testing.assert_allclose(
        found.xyxy[int(found.scores.argmax())], read["boxes"][best].numpy().clip(0, limits), atol=1e-3
    )


def test_owlv2_takes_the_prediction_that_lies_on_the_mask(folders: dict[str, str]) -> None:
    detector = Owlv2(folders["owlv2-image-guided"], "cpu")
    seen = detector.look(PHOTO)
    _, embeddings = detector.network.class_predictor(seen.features)
    place = int(np.argsort(-(seen.boxes[:, 2:] - seen.boxes[:, :2]).prod(axis=1))[3])
    left, top, right, bottom = (round(float(each)) for each in seen.boxes[place])
    mask, box = draw_box((30, 50), top, left, bottom, right), np.array([[left, top, right, bottom]], float)
    query = detector.learn(Subject("s", "mug", (PHOTO,), (mask,))).tensors["query"]
    alike = torch.nn.functional.normalize(embeddings[0], dim=1) @ torch.from_numpy(query)
    chosen = seen.boxes[[int(alike.argmax())]]
    assert overlap(chosen, box)[0] >= 0.8 * overlap(seen.boxes, box).max()
    ids = {detector.learn(Subject("s", "mug", (PHOTO,), masks)).id for masks in ((), (mask,), (MASK,), (MASK,))}
    assert len(ids) == 3, "another mask, another concept"


# --- as methods -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAVERS)
def test_detectors_keep_every_check_of_a_trial(name: str, folders: dict[str, str]) -> None:
    given = options(folders, name, threshold=0.0)
    found = checks(draw_set(masks=True), lambda: load_method(name, given))
    assert {check.state for check in found.values()} <= {"ok", "skipped"}, found
    assert found["candidates"].state == "ok"


@pytest.mark.parametrize("name", SAVERS)
def test_a_scene_is_encoded_once_for_all_its_queries(
    name: str, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    method: Any = load_method(name, options(folders, name, threshold=0.0))
    network = method.detector.network
    vision = network.owlv2.vision_model if name.startswith("owl") else network.model.backbone.conv_encoder.inner
    seen: list[int] = []
    for counted in (vision, method.sam.network.vision_encoder):
        counted.register_forward_hook(lambda *_: seen.append(1))
    concept = method.learn(SUBJECT)
    seen.clear()
    queries = [Query(str(n), "s", text) for n, text in enumerate(("the {subject}", "a {subject}", "the bowl"))]
    assert len(method.locate(SCENE, queries, {"s": concept})) == 3
    assert len(seen) == 2, "once by the detector, once by Segment Anything"


@pytest.mark.parametrize("name", SAVERS)
def test_no_sure_box_is_not_here(name: str, folders: dict[str, str]) -> None:
    method: Any = load_method(name, options(folders, name, threshold=1.0))
    (answer,) = method.locate(SCENE, [Query("q", "s", "the {subject}")], {"s": method.learn(SUBJECT)})
    assert answer.mask is None and 0 < answer.presence <= 1
    assert isinstance(method, GivesCandidates) and method.candidates(SCENE, SUBJECT) == []
    sure: Any = load_method(name, options(folders, name, threshold=0.0))
    (found,) = sure.locate(SCENE, [Query("q", "s", "the {subject}")], {"s": sure.learn(SUBJECT)})
    assert found.mask is not None and found.mask.shape == (52, 36) and found.presence == answer.presence


def test_grounding_dino_is_asked_the_text_or_the_class_word(folders: dict[str, str]) -> None:
    where = folders["grounding-dino"]
    both = []
    for reads in ("text", "noun"):
        detector = GroundingDino(where, "cpu", reads)
        seen, concept = detector.look(SCENE), detector.learn(SUBJECT)
        both.append([detector.find(seen, text, concept).scores for text in ("a {subject} of a bowl", "the {subject}")])
    assert not np.allclose(*both[0], atol=1e-6) and np.array_equal(*both[1])
    with pytest.raises(UnknownNameError, match="reads"):
        GroundingDino(where, "cpu", "nouns")


@pytest.mark.parametrize("name", SAVERS)
def test_what_is_wrong_with_weights_or_settings_is_one_line(
    name: str, folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_bytes((Path(folders[name]) / "config.json").read_bytes())
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    for where, message in (
        ("/nowhere/at/all", "there is no such folder; give the folder or hub id of a"),
        (folders["sam"], "is of the class 'sam', not"),
        (str(tmp_path / "pickled"), "holds only pickled weights .*convert to safetensors"),
    ):
        with pytest.raises(BackboneError, match=message) as caught:
            load_method(name, MethodOptions(model=where, settings={"sam": folders["sam"]}))
        assert "\n" not in str(caught.value)
    for settings, said in (
        ({"threshold": 1.5}, r"threshold=1.5 makes no sense: expected a number in 0\.\.1"),
        ({"sam": ""}, "sam='' makes no sense"),
        ({"treshold": 0.5}, "did you mean 'threshold'"),
    ):
        with pytest.raises(UsageError, match=said):
            load_method(name, MethodOptions(model=folders[name], settings={"sam": folders["sam"], **settings}))


def test_a_gated_model_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import GatedRepoError
    from transformers import Sam3Model

    from prisbench.diffusion import loading

    def refuse(*_: Any, **__: Any) -> None:
        try:
            raise GatedRepoError.__new__(GatedRepoError)
        except GatedRepoError as error:
            raise OSError("You are trying to access a gated repo.\nMake sure to have access") from error

    monkeypatch.setattr(loading, "out_of_reach", lambda: None)
    monkeypatch.setattr(Sam3Model, "from_pretrained", refuse)
    with pytest.raises(BackboneError, match=r"^some/model is gated: accept its terms on huggingface.co and run `hf"):
        loading.load_pretrained(Sam3Model, "some/model")
