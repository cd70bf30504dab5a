"""A backbone whose training goes on from another one's weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTextModel

from prisbench.embedded.autoencoder import train_autoencoder
from prisbench.embedded.denoiser import beginning, go_on_from
from prisbench.embedded.files import SceneFolder, save_array
from prisbench.embedded.models import assemble, build_autoencoder, load_autoencoder
from prisbench.embedded.recipe import Recipe
from prisbench.embedded.stage import Running
from prisbench.embedded.training import train
from prisbench.embedded.words import make_tokenizer, token_ids
from prisbench.errors import UsageError

SMALL = Recipe(vae_channels=(8, 8, 8), unet_channels=(8, 16, 16), text_width=16, positions=16, context=16)


def test_words_keep_their_embeddings_and_new_ones_have_their_own(tmp_path: Path) -> None:
    few = make_tokenizer(tmp_path / "few", ["mug", "red"], SMALL.context)
    unet, text = beginning(SMALL, few)
    with torch.no_grad():
        for p in [*unet.parameters(), *text.parameters()]:
            p.add_(0.25)
    former = assemble(tmp_path / "former", build_autoencoder(SMALL), unet, text, few)

    more = make_tokenizer(tmp_path / "more", ["mug", "leftmost", "red"], SMALL.context)
    fresh, words = beginning(SMALL, more)
    before = words.get_input_embeddings().weight.detach().clone()
    go_on_from(former, fresh, words, more)
    after = words.get_input_embeddings().weight
    theirs = text.get_input_embeddings().weight
    for word in ("mug</w>", "red</w>"):
        torch.testing.assert_close(after[more.get_vocab()[word]], theirs[few.get_vocab()[word]].half().float())
    new = more.get_vocab()["leftmost</w>"]
    torch.testing.assert_close(after[new], before[new])
    for name, value in fresh.state_dict().items():
        torch.testing.assert_close(value, unet.state_dict()[name].half().float(), msg=name)


def test_layers_that_the_start_lacks_change_nothing_at_first(tmp_path: Path) -> None:
    words = make_tokenizer(tmp_path / "words", ["mug", "red"], SMALL.context)
    shallow = dataclasses.replace(SMALL, text_layers=1)
    unet, text = beginning(shallow, words)
    former = assemble(tmp_path / "former", build_autoencoder(SMALL), unet, text, words)
    deeper = dataclasses.replace(SMALL, text_layers=3)
    fresh, deep = beginning(deeper, words)
    go_on_from(former, fresh, deep, words)
    tokens = token_ids(words, ["red mug", "mug"], SMALL.positions)[:, : SMALL.context]
    theirs = CLIPTextModel.from_pretrained(former / "text_encoder", torch_dtype=torch.float32)
    with torch.no_grad():
        expected, found = (each.eval()(tokens).last_hidden_state for each in (theirs, deep))
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        for name, p in deep.named_parameters():
            if ".layers.2." in name:
                p.add_(0.05)
        assert not torch.allclose(deep(tokens).last_hidden_state, expected), "the third layer is there"


@pytest.mark.parametrize("steps", [0, 4])
def test_the_autoencoder_goes_on_or_stays(tmp_path: Path, steps: int) -> None:
    recipe = dataclasses.replace(SMALL, vae_steps=steps, vae_batch=2, vae_crop=16, start="abc")
    words = make_tokenizer(tmp_path / "words", ["mug"], SMALL.context)
    former = assemble(tmp_path / "former", build_autoencoder(SMALL), *beginning(SMALL, words), words)
    run = tmp_path / "run"
    folder = SceneFolder(run, ((16, 16),))
    run.mkdir()
    save_array(folder.scenes((16, 16)), np.zeros((3, 16, 16, 3), np.uint8))
    found = train_autoencoder(folder, recipe, Running(lambda *_: None, 1e9), former).state_dict()
    theirs = load_autoencoder(former / "vae").state_dict()
    far = max(float((found[name].float() - value.float()).abs().max()) for name, value in theirs.items())
    assert (far == 0) if steps == 0 else (0 < far < 0.05), "a few steps from there, not another beginning"


def test_no_autoencoder_comes_from_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="an autoencoder of 0 steps needs a pipeline to take it from"):
        train(tmp_path / "run", dataclasses.replace(SMALL, vae_steps=0))


@pytest.mark.parametrize("start", ["abc", ""])
def test_a_start_and_its_folder_come_together(tmp_path: Path, start: str) -> None:
    with pytest.raises(UsageError, match="a recipe with a start needs the folder of that pipeline"):
        train(tmp_path / "run", Recipe(start=start), start=None if start else tmp_path)
    assert not (tmp_path / "run").exists()
