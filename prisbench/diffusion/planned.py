"""What a published transformer takes, computed: its weights, and the operations and memory of one look at a photo.

The model is built at full width on torch's device "meta", where tensors have shapes and no numbers, and runs there
under the recorder.  So nothing is allocated, and no weights are needed; how long it takes on a machine is not known.

Knows: the sizes of published transformers, torch's counter of operations.  Does not know: folders, photos.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from prisbench.diffusion.architectures import TRANSFORMERS
from prisbench.diffusion.joint import How, Wanted, recorder
from prisbench.diffusion.pipelines import CLASSES
from prisbench.diffusion.transformer import Streams, Transformer
from prisbench.errors import UnknownNameError


class Plan(NamedTuple):
    """``weights`` and ``text_weights``: how many the transformer and its text encoders have.  ``rows``: of image and of
    text.  ``operations``: multiplications and additions of one pass for one noise that ends where the recorder ends it.
    ``activations``: numbers that such a pass holds at its peak, as ``Transformer.numbers_a_row`` reckons.
    """

    name: str
    weights: int
    text_weights: int
    rows: tuple[int, int]
    operations: int
    activations: int

    def bytes(self, itemsize: int = 2) -> int:
        """What one look takes: all weights and the activations, by default in half precision."""
        return (self.weights + self.text_weights + self.activations) * itemsize


def plan(name: str, photo_hw: tuple[int, int], blocks: tuple[str, ...], queries: int = 1) -> Plan:
    """The plan of one look at a photo of that size, for so many queries, whose attention in ``blocks`` is recorded.

    Raises UnknownNameError.
    """
    if name not in TRANSFORMERS:
        raise UnknownNameError("transformer", name, TRANSFORMERS)
    size = TRANSFORMERS[name]
    with torch.device("meta"), torch.no_grad():
        model = CLASSES[size.model](**size.config).eval()
        network = Transformer(model, size.vae_factor)
        h, w = (side // size.vae_factor for side in photo_hw)
        latents = torch.empty(1, int(network.config["in_channels"]), h, w)
        states, added = _text(model, size)
        streams = Streams(states.expand(queries, -1, -1), {k: v.expand(queries, -1) for k, v in added.items()})
        columns = torch.ones(queries, states.shape[1], 6)
        counter = FlopCounterMode(display=False)
        with counter, recorder(network, columns, Wanted(blocks, ()), streams, How()):
            network(latents, torch.empty(1), encoder_hidden_states=states, added_cond_kwargs=added)
    rows = (network.tokens((h, w))[0] * network.tokens((h, w))[1], int(states.shape[1]))
    weights = sum(parameter.numel() for parameter in model.parameters())
    return Plan(name, weights, size.text_weights, rows, counter.get_total_flops(), network.numbers_a_row((h, w)))


def _text(model: Any, size: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A text of the model's length, and what is beside it."""
    width = model.config.get("joint_attention_dim") or model.config["caption_channels"]
    added = {"pooled": torch.empty(1, int(model.config.get("pooled_projection_dim") or 1))}
    added |= {"mask": torch.ones(1, size.text_rows), "positions": torch.zeros(1, size.text_rows)}
    if getattr(model, "use_additional_conditions", False):
        added |= {"resolution": torch.empty(1, 2), "aspect_ratio": torch.empty(1, 1)}
    return torch.empty(1, size.text_rows, int(width)), added
