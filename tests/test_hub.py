"""Models of the hub where there is no network: one line, at once."""

from __future__ import annotations

import time
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest
from transformers import CLIPTextModel

from prisbench.datasets.checks.embedding import load_embedding
from prisbench.diffusion.loading import load_backbone, load_pretrained
from prisbench.errors import BackboneError
from prisbench.runtime import hub


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub at an address where nothing listens."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")


def test_without_network_a_hub_id_is_one_line_at_once(offline: None) -> None:
    for load in (
        load_backbone,
        lambda name: load_pretrained(CLIPTextModel, name),
        load_embedding,
    ):
        start = time.perf_counter()
        with pytest.raises(BackboneError, match=r"nobody/nothing .*127.0.0.1:9 cannot be reached: .*folder") as caught:
            load("nobody/nothing")
        assert time.perf_counter() - start < 15  # a library alone would wait 23 s for each file
        assert "\n" not in str(caught.value)


def test_an_offline_switch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match=r"HF_HUB_OFFLINE is set; unset it, or name a folder"):
        load_pretrained(CLIPTextModel, "nobody/nothing")


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: time.sleep(1))
    assert "no answer in 0.05 seconds" in str(hub.out_of_reach(0.05))


def test_a_folder_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub.is_hub_id("owner/name") and not hub.is_hub_id("name") and not hub.is_hub_id("a/b/c")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert not hub.is_hub_id("owner/name")
