"""What is minimised, in how many steps and how fast: the settings of a training, its loss, its
rates.

The schedule is the published one of DeepLab v2 (kazuto1011/deeplab-pytorch,
``configs/voc12.yaml``, ``main.py``, ``libs/utils/lr_scheduler.py``): 20,000 steps of 10 crops of
321 pixels, photos scaled by 0.5 to 1.5 and flipped, SGD whose rate falls by a power of 0.9.  The
classifiers learn 10 times (biases 20 times) as fast.  Cross-entropy is summed over all scales, and
void pixels are left out.

Knows: the published numbers, the loss, the rates.  Does not know: photos, checkpoints.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from prisbench.errors import UnknownNameError, UsageError
from prisbench.wsss.networks import LAPTOP, Network

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OPTIMIZERS = ("sgd", "adamw")


@dataclass(frozen=True)
class TrainSettings:
    """Every number of a run.  The last three change nothing in its result and may differ when it
    is resumed.

    A step looks at ``batch`` crops, in ``accumulate`` parts to spare memory; with several GPUs
    each takes its share of the batch.  Rates: ``lr`` for what was pretrained, multiples of it for
    the head.  Every ``poly_every`` steps they are multiplied anew with (1 - step / steps) **
    ``poly_power``.  Biases and normalisation do not decay.
    ``precision``: "float32", or autocast to "bfloat16" or "float16" (whose gradients are scaled).
    ``workers``: threads that read photos; 0 reads between the steps.
    """

    steps: int = 20_000
    batch: int = 10
    accumulate: int = 2
    crop_hw: tuple[int, int] = (321, 321)
    scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5)
    flip: bool = True
    optimizer: str = "sgd"
    lr: float = 2.5e-4
    head_weight_lr: float = 10.0
    head_bias_lr: float = 20.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    poly_power: float = 0.9
    poly_every: int = 10
    ignore: int = 255
    seed: int = 0
    precision: str = "float32"
    log_every: int = field(default=50, metadata={"free": True})
    checkpoint_seconds: float = field(default=300.0, metadata={"free": True})
    workers: int = field(default=4, metadata={"free": True})

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)
        if self.optimizer not in OPTIMIZERS:
            raise UnknownNameError("optimizer", self.optimizer, OPTIMIZERS)
        counts = (self.steps, self.batch, self.accumulate, *self.crop_hw, self.poly_every, self.log_every)
        if min(counts) < 1 or not self.scales or min(self.scales) <= 0 or self.lr <= 0 or self.workers < 0:
            raise UsageError(f"no training is possible with {self}")
        if self.batch % self.accumulate:
            raise UsageError(f"a batch of {self.batch} cannot be taken in {self.accumulate} equal parts")

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON has them."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {f.name: values[f.name] for f in fields(self) if not f.metadata.get("free")}


PRESETS = {
    "voc12": TrainSettings(),
    "coco14": TrainSettings(steps=100_000),
    "laptop": TrainSettings(
        steps=1500,
        batch=8,
        accumulate=1,
        crop_hw=(96, 112),
        optimizer="adamw",
        lr=1e-3,
        head_weight_lr=1.0,
        head_bias_lr=2.0,
    ),
}
"""The first is published.  For COCO 2014 no schedule of the paper could be read; 100,000 steps is
what the same repository trains COCO-Stuff with (``configs/cocostuff164k.yaml``).  The last starts
from random weights, where the head need not run ahead of the rest and SGD takes far longer to
leave "all is background": after 200 steps on 100 Tabletop scenes, mIoU was 0.08 on other scenes,
with AdamW 0.21."""


def preset_for(layout: str, preset: str | None = None) -> str:
    """The name of a training preset: the one that is given, else that of the set's layout,
    "laptop" for a folder.

    Raises UnknownNameError.
    """
    name = preset or (layout if layout in PRESETS else LAPTOP)
    if name not in PRESETS:
        raise UnknownNameError("training preset", name, PRESETS)
    return name


def loss_of(outputs: list[Tensor], labels: Int[Tensor, "b h w"] | UInt8[Tensor, "b h w"], ignore: int) -> Tensor:
    """Cross-entropy of each output with the labels at its size, each a mean over pixels that are
    not void, summed.

    Labels are made smaller by taking the nearest pixel, as published.  An output that only meets
    void adds nothing.
    """
    return torch.stack([_cross_entropy(logits, labels, ignore) for logits in outputs]).sum()


def _cross_entropy(logits: Tensor, labels: Tensor, ignore: int) -> Tensor:
    h, w = logits.shape[-2:]
    small = labels[:, _nearest(labels.shape[1], h, labels.device)][:, :, _nearest(labels.shape[2], w, labels.device)]
    total = F.cross_entropy(logits.float(), small.long(), ignore_index=ignore, reduction="sum")
    # Pseudo masks leave whole crops void.  Their sum is 0, and 0 / 1 is what they should add; a mean would be NaN.
    return total / (small != ignore).sum().clamp(min=1)


def _nearest(size: int, wanted: int, device: torch.device) -> Tensor:
    """For each of ``wanted`` cells the pixel under its middle."""
    return ((torch.arange(wanted, device=device) * 2 + 1) * size) // (2 * wanted)


def rate_at(step: int, settings: TrainSettings) -> float:
    """What all learning rates are multiplied with at a step."""
    held = step // settings.poly_every * settings.poly_every
    return float((1 - held / settings.steps) ** settings.poly_power)


def parameter_groups(network: Network, settings: TrainSettings) -> list[dict[str, Any]]:
    """What learns, by how fast it learns and whether it decays."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            bias = name.endswith("bias")
            factor = (settings.head_bias_lr if bias else settings.head_weight_lr) if network.is_head(name) else 1.0
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": parameters, "factor": factor, "lr": factor * settings.lr, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


def optimizer_of(network: Network, settings: TrainSettings) -> torch.optim.Optimizer:
    groups = parameter_groups(network, settings)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    dtype = PRECISIONS[precision]
    on = dtype is not torch.float32
    return torch.autocast(device.type, dtype if on else torch.bfloat16, enabled=on)
