"""Which presence threshold is in use is said, and the subject's own photos give one on every family of backbones."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from prisbench.cli import main as cli
from prisbench.concepts.controls import noun_only
from prisbench.diffusion.loading import load_backbone
from prisbench.errors import UsageError
from prisbench.localizer.method import AttentionMethod
from prisbench.localizer.presence import UNTUNED, calibrated, calibration_key, in_use
from prisbench.localizer.presets import PRESETS
from prisbench.localizer.settings import Evidence
from prisbench.settings import MethodOptions
from prisbench.types import SLOT, Concept, Query, Subject
from tests.drawing import draw_scene


def concept(**calibration: float) -> Concept:
    vectors = {"vectors": np.zeros((1, 4), np.float32)}
    return Concept("abc", "s", "mug", "textual-inversion", "tiny", vectors, calibration=calibration)


def test_every_preset_says_its_threshold() -> None:
    lines = {
        (family, name): in_use(settings, family, "key").line
        for family, presets in PRESETS.items()
        for name, settings in presets.items()
    }
    off = "presence threshold: off (untuned): every photo gets a mask"
    for family in ("sd", "sdxl"):
        assert lines[family, "paper"] == lines[family, "fast"] == off
        assert lines[family, "accurate"] == "presence threshold: 0.2 (untuned); calibrated on the subject's own photos"
    assert lines["embedded", "accurate"] == "presence threshold: 0.25; calibrated on the subject's own photos"


def test_a_threshold_without_a_calibration_is_off_and_says_why() -> None:
    settings = PRESETS["sd"]["accurate"]
    assert in_use(settings, "sd", "key", concept(key=0.3)).threshold == 0.2
    for other, why in (
        (concept(other=0.3), "not calibrated under these settings; run the same learn-concept again"),
        (concept(key=0.0), "own photos show nothing"),
        (noun_only(Subject("photo", "mug", ())), "a class word alone has no own photos"),
    ):
        found = in_use(settings, "sd", "key", other)
        assert found.threshold is None and why in found.line
    without = in_use(dataclasses.replace(settings, evidence=Evidence()), "sd", "key")
    assert without.threshold is None and "needs localizer.evidence" in without.line


def test_calibrated_keeps_a_presets_own_evidence_and_threshold_and_adds_what_is_missing() -> None:
    accurate = PRESETS["sd"]["accurate"]
    assert calibrated(accurate) == accurate
    paper = calibrated(PRESETS["sd"]["paper"])
    assert paper.presence == UNTUNED and paper.evidence and paper.evidence.power == 0
    assert dataclasses.replace(paper, presence=None, evidence=Evidence()) == PRESETS["sd"]["paper"]


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_own_photos_calibrate_stable_diffusion(kind: str, tmp_path: Path) -> None:
    backbone = load_backbone(tiny.save(tmp_path / kind, kind=kind))
    quick = {"localizer.samples": 1, "localizer.working_size": 64, "localizer.preset": "paper"}
    quick["localizer.template"] = "a photo of {text}"  # the tiny tokenizer has no room for the rest
    options = MethodOptions("untrained-token", settings=quick, store=str(tmp_path / "store"))
    plain = AttentionMethod.make(options, backbone)
    asked = MethodOptions("untrained-token", settings={**quick, "localizer.presence": "calibrated"})
    method = AttentionMethod.make(asked, backbone)
    for each in (plain, method):
        each.encodings = tmp_path / "encodings"
    assert plain.presence().threshold is None and "(untuned)" in method.presence().line
    assert json.loads(json.dumps(method.settings))["localizer"]["presence"] == UNTUNED

    subject = Subject("mug", "mug", (draw_scene(0, (64, 96)), draw_scene(1, (64, 96))))
    learned = method.learn(subject)
    assert set(learned.calibration) == {calibration_key(method.localizer)}
    photo, query = draw_scene(2, (64, 96)), Query("q", "mug", f"the {SLOT}")
    (free,) = plain.locate(photo, [query], {"mug": learned})
    key = calibration_key(method.localizer)
    for typical, absent in ((1e6, True), (1e-9, False)):  # own photos that show very much of it, or next to nothing
        known = dataclasses.replace(learned, calibration={key: typical})
        (answer,) = method.locate(photo, [query], {"mug": known})
        assert method.presence(known).threshold == UNTUNED and answer.presence is not None
        assert (answer.mask is None) is absent is (answer.presence < UNTUNED)
        assert absent or (free.mask is not None and np.array_equal(answer.mask, free.mask))


def test_a_presence_of_another_word_is_refused(tmp_path: Path) -> None:
    backbone = load_backbone(tiny.save(tmp_path / "sd1", kind="sd1"))
    with pytest.raises(UsageError, match=r"localizer\.presence"):
        AttentionMethod.make(MethodOptions(settings={"localizer.presence": "calibratd"}), backbone)


def test_segment_and_presets_say_the_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prisbench(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["prisbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            cli.main()
        assert not done.value.code
        return capsys.readouterr().out

    Image.fromarray(draw_scene(0, (64, 96))).save(tmp_path / "photo.png")
    folder = tiny.save(tmp_path / "sd1", kind="sd1")
    find = ["segment", tmp_path / "photo.png", "--noun", "mug", "--backbone", folder, "--out", tmp_path / "found"]
    find += ["--set", "localizer.samples=1", "--set", "localizer.working_size=64"]
    find += ["--set", "localizer.template=a photo of {text}"]
    assert "presence threshold: off (untuned): every photo gets a mask" in prisbench(*find)
    assert json.loads(prisbench(*find, "--format", "json"))["presence_threshold"] is None
    assert "a class word alone" in prisbench(*find, "--set", "localizer.presence=calibrated")
    assert "paper on sd (the default); presence threshold: off (untuned)" in prisbench("presets", "--family", "sd")
