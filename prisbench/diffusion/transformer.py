"""A diffusion transformer behind the call of a U-Net: latents, timesteps and a text in, a prediction out.

    network(latents, timesteps, encoder_hidden_states=states, added_cond_kwargs=added, return_dict=False)[0]

Latents come and go as images (b c h w): what a model packs, numbers by place, or is told beside the text is done here,
as diffusers' pipeline of that model does it.  So whatever noises latents and compares predictions need not know which
model it has.

Knows: the arguments of diffusers' transformers.  Does not know: their classes, attention, how a text was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from prisbench.diffusion.families import GUIDANCE, NATIVE_PX, SEQUENCES, Sequence
from prisbench.errors import BackboneError

ALONG_THE_TEXT = ("mask", "positions")
"""What of the condition has an entry for each row of the text; the rest is one for the whole text."""

STEPS = 1000
"""Timesteps of flow matching: at t the noise's share is t / STEPS."""


class Streams(NamedTuple):
    """Further texts that see the image and that the image does not see, p of them; see ``diffusion.joint``."""

    states: Float[Tensor, "p t d"]
    added: Mapping[str, Tensor] | None


class Transformer(nn.Module):
    """A transformer of diffusers (``model``) with a U-Net's call.

    ``config`` has what is asked of U-Nets: ``in_channels`` of the latents, and ``sample_size``, their side.
    ``streams``, where a recorder put some, stand behind the text in every call.
    """

    def __init__(self, model: Any, vae_factor: int) -> None:
        super().__init__()
        self.model = model
        self.sequence: Sequence = SEQUENCES[type(model).__name__]
        self.patch = int(self.sequence.patch or model.config["patch_size"])
        packed = self.patch**2 if self.sequence.patch else 1
        size = model.config.get("sample_size") or NATIVE_PX // vae_factor
        self.config = {"in_channels": model.config["in_channels"] // packed, "sample_size": size}
        self.streams: Streams | None = None

    def forward(
        self,
        sample: Float[Tensor, "b c h w"],
        timestep: Tensor,
        encoder_hidden_states: Float[Tensor, "b t d"],
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
        return_dict: bool = False,
    ) -> tuple[Float[Tensor, "b c h w"]]:
        """The prediction, in a tuple.  Raises BackboneError for an image larger than the model has places for."""
        del return_dict
        states, added = encoder_hidden_states, dict(added_cond_kwargs or {})
        if self.streams is not None:
            states = _behind(states, self.streams.states)
            for name in ALONG_THE_TEXT:
                if name in added:
                    assert self.streams.added is not None, "the streams come with what their texts have beside them"
                    added[name] = _behind(added[name], self.streams.added[name])
        call = CALLS[type(self.model).__name__]
        return (call(self.model, sample, timestep, states, added),)

    def tokens(self, latent_hw: tuple[int, int]) -> tuple[int, int]:
        """The grid of image rows over latents of that size."""
        return latent_hw[0] // self.patch, latent_hw[1] // self.patch

    def numbers_a_row(self, latent_hw: tuple[int, int]) -> int:
        """Numbers that one image of a batch has in the memory at its peak.

        Beside the rows of image and text (a text as long as 512) there are their normalised form, queries, keys,
        values, what attention gives, and a feed-forward layer four times as wide: near 16 of them.  Not measured.
        """
        h, w = self.tokens(latent_hw)
        width = self.model.config["num_attention_heads"] * self.model.config["attention_head_dim"]
        return 16 * (h * w + 512) * int(width)

    def enable_gradient_checkpointing(self) -> None:
        self.model.enable_gradient_checkpointing()

    def disable_gradient_checkpointing(self) -> None:
        self.model.disable_gradient_checkpointing()


def _behind(text: Tensor, further: Tensor) -> Tensor:
    """The streams' rows behind the text's, in every row of the batch."""
    rows = further.to(text).flatten(0, 1)
    return torch.cat([text, rows.expand(len(text), *rows.shape)], 1)


# --- the calls ------------------------------------------------------------------------------------------------------


def _sd3(model: Any, x: Tensor, t: Tensor, states: Tensor, added: Mapping[str, Tensor]) -> Tensor:
    side = model.config["pos_embed_max_size"] * model.config["patch_size"]
    if max(x.shape[-2:]) > side:
        raise BackboneError(
            f"this model has places for images of at most {side} latent cells a side, not {max(x.shape[-2:])}; "
            "give a smaller localizer.working_size"
        )
    return model(x, states, added["pooled"], t, return_dict=False)[0]


def _flux(model: Any, x: Tensor, t: Tensor, states: Tensor, added: Mapping[str, Tensor]) -> Tensor:
    b, c, h, w = x.shape
    packed = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)
    out = model(
        packed,
        states,
        added["pooled"],
        t / STEPS,
        img_ids=places(h // 2, w // 2, 3).to(x),
        txt_ids=states.new_zeros(states.shape[1], 3),
        guidance=torch.full((b,), GUIDANCE, device=x.device) if model.config["guidance_embeds"] else None,
        return_dict=False,
    )[0]
    return out.view(b, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


def _flux2(model: Any, x: Tensor, t: Tensor, states: Tensor, added: Mapping[str, Tensor]) -> Tensor:
    b, _, h, w = x.shape
    numbers = torch.zeros(states.shape[1], 4, device=x.device)
    numbers[:, 3] = added["positions"][0]
    out = model(
        x.flatten(2).transpose(1, 2),
        states,
        t / STEPS,
        img_ids=places(h, w, 4).to(x.device),
        txt_ids=numbers,
        guidance=torch.full((b,), GUIDANCE, device=x.device) if model.config["guidance_embeds"] else None,
        return_dict=False,
    )[0]
    return out.transpose(1, 2).unflatten(2, (h, w))


def _pixart(model: Any, x: Tensor, t: Tensor, states: Tensor, added: Mapping[str, Tensor]) -> Tensor:
    sizes = {"resolution": added.get("resolution"), "aspect_ratio": added.get("aspect_ratio")}
    out = model(
        x,
        encoder_hidden_states=states,
        timestep=t,
        added_cond_kwargs=sizes,
        encoder_attention_mask=added["mask"],
        return_dict=False,
    )[0]
    return out[:, : x.shape[1]]  # the other half is a variance, which nothing here asks for


CALLS: Mapping[str, Callable[[Any, Tensor, Tensor, Tensor, Mapping[str, Tensor]], Tensor]] = {
    "SD3Transformer2DModel": _sd3,
    "FluxTransformer2DModel": _flux,
    "Flux2Transformer2DModel": _flux2,
    "PixArtTransformer2DModel": _pixart,
}
"""Model class -> ``call(model, latents, timesteps, states, added)``, the prediction for these latents."""


def places(h: int, w: int, axes: int) -> Float[Tensor, "n axes"]:
    """Row and column of every image row, row after row, as rotary embeddings count them: axes 1 and 2."""
    grid = torch.zeros(h, w, axes)
    grid[..., 1], grid[..., 2] = torch.arange(h)[:, None], torch.arange(w)
    return grid.flatten(0, 1)
