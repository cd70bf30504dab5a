"""DeepLab v2 on a dilated ResNet: a network that gives every pixel a class.

It takes photos as they are (RGB, 0..255) and returns a list of logits: all of them are taught, the
last is the answer.

DeepLab v2 is Chen et al. 2016 (arXiv 1606.00915) with the numbers of kazuto1011/deeplab-pytorch
(``configs/voc12.yaml``, ``libs/models``): output stride 8, four dilated 3x3 classifiers summed,
the photo also at 0.75 and 0.5 of its size, the largest logit of the three kept.

There are two departures, because weights come in torchvision's layout rather than Caffe's.
Colours are RGB divided by ImageNet's deviation.  The stride sits on the 3x3 convolution, so a
stage's first block keeps the dilation of the stage before it: only so do the weights compute what
they were trained to compute.

Knows: layers and their first values.  Does not know: files, losses, data, training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from prisbench.errors import UnknownNameError, UsageError

KERNELS = {"bottleneck": (1, 3, 1), "basic": (3, 3)}
"""Kind of block -> its convolutions; the first 3x3 carries the stride."""
EXPANSION = {"bottleneck": 4, "basic": 1}


class Colours(NamedTuple):
    """Mean and deviation of R, G, B where white is 1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Colours((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What torchvision's weights were trained with."""


@dataclass(frozen=True)
class DeepLabSize:
    """Everything that shapes the network but its classes.

    ``width``: channels of the stem and of the first stage's 3x3 convolutions; it doubles with each
    stage.
    ``output_stride``: pixels between neighbouring logits; stages that would go beyond are dilated
    instead.
    ``rates``: dilations of the classifiers that are summed.  ``scales``: the sizes that are looked
    at besides 1.
    """

    block: str = "bottleneck"
    depths: tuple[int, int, int, int] = (3, 4, 23, 3)
    width: int = 64
    output_stride: int = 8
    rates: tuple[int, ...] = (6, 12, 18, 24)
    scales: tuple[float, ...] = (0.75, 0.5)

    def __post_init__(self) -> None:
        if self.block not in KERNELS:
            raise UnknownNameError("block", self.block, KERNELS)
        if self.output_stride not in (4, 8, 16, 32):
            raise UsageError(f"an output stride of {self.output_stride} cannot be made; take 4, 8, 16 or 32")
        if self.width < 1 or min(self.depths) < 1 or min(self.rates, default=0) < 1 or min(self.scales, default=1) <= 0:
            raise UsageError(f"no network can be made of {self}")


SIZES = {
    "resnet101": DeepLabSize(),
    "resnet50": DeepLabSize(depths=(3, 4, 6, 3)),
    "resnet18": DeepLabSize("basic", (2, 2, 2, 2)),
    "laptop": DeepLabSize("basic", (2, 2, 2, 2), width=24, rates=(1, 2, 4, 6)),
}
"""Published is resnet101.  "laptop" (1.6 million parameters) is for scenes of some 100 x 150
pixels, where the published rates would mostly look outside the photo."""


def deeplab(size: DeepLabSize, classes: Sequence[str], seed: int = 0) -> DeepLab:
    """A network of random weights, the same for the same seed.

    Its batch normalisation learns; ``load_imagenet`` freezes it.  Raises UsageError for fewer than
    two classes.
    """
    check_classes(classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DeepLab(size, classes)


class DeepLab(nn.Module):
    """DeepLab v2.  Build one with ``deeplab``."""

    def __init__(self, size: DeepLabSize, classes: Sequence[str], colours: Colours = IMAGENET) -> None:
        super().__init__()
        self.size, self.classes, self.colours, self.norm_frozen = size, tuple(classes), colours, False
        self.backbone = ResNet(size)
        self.aspp = nn.ModuleList(
            nn.Conv2d(self.backbone.channels, len(self.classes), 3, padding=rate, dilation=rate) for rate in size.rates
        )
        add_colours(self, colours)
        for module in self.backbone.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for conv in cast("list[nn.Conv2d]", list(self.aspp)):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(cast(Tensor, conv.bias))

    def forward(self, images: Num[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c _ _"]]:
        """Logits at size 1, then at each of ``size.scales`` (each at
        its own resolution), then the largest.
        """
        x = normalised(self, images)
        whole = self.logits(x)
        parts = [self.logits(resized(x, _scaled(x, scale))) for scale in self.size.scales]
        if not parts:
            return [whole]
        hw = (whole.shape[-2], whole.shape[-1])
        fused = torch.stack([whole, *(resized(part, hw) for part in parts)]).max(dim=0).values
        return [whole, *parts, fused]

    def logits(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Of one size; ``x`` has ImageNet's colours."""
        features = self.backbone(x)
        return torch.stack([conv(features) for conv in self.aspp]).sum(dim=0)

    def freeze_norm(self) -> None:
        """Batch normalisation keeps its statistics and its parameters, as
        published: right after pretraining only.
        """
        self.norm_frozen = True
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> DeepLab:
        super().train(mode)
        for module in self.modules():
            if self.norm_frozen and isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def is_head(self, parameter: str) -> bool:
        """Whether a parameter belongs to the part that no pretraining has seen."""
        return parameter.startswith("aspp.")

    def describe(self) -> dict[str, Any]:
        """What, with the weights, makes this network again: JSON."""
        return {
            "kind": "deeplab-v2",
            "size": asdict(self.size),
            "classes": list(self.classes),
            "norm_frozen": self.norm_frozen,
            "colours": self.colours._asdict(),
        }


class ResNet(nn.Module):
    """Features of a photo.

    Parameter names and shapes are torchvision's, without the classifier ``fc``.
    """

    def __init__(self, size: DeepLabSize) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, size.width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(size.width)
        channels, reached, dilation = size.width, 4, 1
        for stage, depth in enumerate(size.depths):
            width, stride, before = size.width * 2**stage, 1 if stage == 0 else 2, dilation
            if reached * stride > size.output_stride:
                dilation, stride = dilation * stride, 1
            reached *= stride
            blocks = []
            for i in range(depth):
                here = (stride, (before, dilation)) if i == 0 else (1, (dilation, dilation))
                blocks.append(Block(size.block, channels, width, *here))
                channels = width * EXPANSION[size.block]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.channels = channels

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True)  # rounding up as published; torchvision rounds down
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return x


class Block(nn.Module):
    """A residual block; ``dilations`` are those of its first 3x3
    convolution and of the ones after it.
    """

    def __init__(self, kind: str, channels: int, width: int, stride: int, dilations: tuple[int, int]) -> None:
        super().__init__()
        kernels, outputs = KERNELS[kind], width * EXPANSION[kind]
        self.convolutions, inputs = len(kernels), channels
        for i, kernel in enumerate(kernels):
            first = i == kernels.index(3)
            wide = outputs if i == len(kernels) - 1 else width
            conv = _conv(inputs, wide, kernel, stride if first else 1, dilations[0 if first else 1])
            self.add_module(f"conv{i + 1}", conv)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(wide))
            inputs = wide
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels != outputs:
            self.downsample = nn.Sequential(_conv(channels, outputs, 1, stride, 1), nn.BatchNorm2d(outputs))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        out = x
        for i in range(1, self.convolutions + 1):
            out = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(out))
            if i < self.convolutions:
                out = F.relu(out)
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


def _conv(inputs: int, outputs: int, kernel: int, stride: int, dilation: int) -> nn.Conv2d:
    padding = dilation if kernel == 3 else 0
    return nn.Conv2d(
        inputs, outputs, kernel, stride, padding=padding, dilation=dilation if kernel == 3 else 1, bias=False
    )


def check_classes(classes: Sequence[str]) -> None:
    if not 2 <= len(classes) <= 255:
        raise UsageError(f"{len(classes)} classes; from 2 to 255, the first is the background and label 255 is void")


def add_colours(network: nn.Module, colours: Colours) -> None:
    for name, value in colours._asdict().items():
        network.register_buffer(name, torch.tensor(value).reshape(1, 3, 1, 1) * 255, persistent=False)


def normalised(network: nn.Module, images: Num[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    return (images.float() - network.get_buffer("mean")) / network.get_buffer("std")


def _scaled(x: Float[Tensor, "b c h w"], scale: float) -> tuple[int, int]:
    return max(1, int(x.shape[-2] * scale)), max(1, int(x.shape[-1] * scale))


def resized(x: Float[Tensor, "b c h w"], size_hw: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
    return F.interpolate(x, size=size_hw, mode="bilinear", align_corners=False)
