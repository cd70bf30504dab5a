"""A backbone whose training goes on from another one's weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from prisbench.embedded.denoiser import beginning, go_on_from
from prisbench.embedded.models import assemble, build_autoencoder
from prisbench.embedded.recipe import Recipe
from prisbench.embedded.training import train
from prisbench.embedded.words import make_tokenizer
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


@pytest.mark.parametrize("start", ["abc", ""])
def test_a_start_and_its_folder_come_together(tmp_path: Path, start: str) -> None:
    with pytest.raises(UsageError, match="a recipe with a start needs the folder of that pipeline"):
        train(tmp_path / "run", Recipe(start=start), start=None if start else tmp_path)
    assert not (tmp_path / "run").exists()
