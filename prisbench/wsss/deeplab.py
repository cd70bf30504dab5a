"""Networks that give every pixel a class: DeepLab v2 on a dilated ResNet, or a model of transformers in its place.

Both take photos as they are (RGB, 0..255) and return a list of logits: all of them are taught, the last is the answer.

DeepLab v2 is Chen et al. 2016 (arXiv 1606.00915) with the numbers of kazuto1011/deeplab-pytorch
(``configs/voc12.yaml``, ``libs/models``): output stride 8, four dilated 3x3 classifiers summed, the photo also at 0.75
and 0.5 of its size, the largest logit of the three kept.  Two departures, because weights come in torchvision's layout
rather than Caffe's: colours are RGB divided by ImageNet's deviation, and the stride sits on the 3x3 convolution, so a
stage's first block keeps the dilation of the stage before it (only so do the weights compute what they were trained to
compute).

Knows: layers, and weights in files.  Does not know: losses, data, training.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Num
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from prisbench.errors import BackboneError, DataError, UnknownNameError, UsageError
from prisbench.runtime.files import cannot_read, new_folder, read_json, write_json

FORMAT = 1
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

    ``width``: channels of the stem and of the first stage's 3x3 convolutions; it doubles with each stage.
    ``output_stride``: pixels between neighbouring logits; stages that would go beyond are dilated instead.
    ``rates``: dilations of the classifiers that are summed.  ``scales``: the sizes that are looked at besides 1.
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
"""Published is resnet101.  "laptop" (1.6 million parameters) is for scenes of some 100 x 150 pixels, where the
published rates would mostly look outside the photo."""


class Block(nn.Module):
    """A residual block; ``dilations`` are those of its first 3x3 convolution and of the ones after it."""

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


class ResNet(nn.Module):
    """Features of a photo.  Parameter names and shapes are torchvision's, without the classifier ``fc``."""

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


class DeepLab(nn.Module):
    """DeepLab v2.  Build one with ``deeplab``."""

    def __init__(self, size: DeepLabSize, classes: Sequence[str], colours: Colours = IMAGENET) -> None:
        super().__init__()
        self.size, self.classes, self.colours, self.norm_frozen = size, tuple(classes), colours, False
        self.backbone = ResNet(size)
        self.aspp = nn.ModuleList(
            nn.Conv2d(self.backbone.channels, len(self.classes), 3, padding=rate, dilation=rate) for rate in size.rates
        )
        _add_colours(self, colours)
        for module in self.backbone.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for conv in cast("list[nn.Conv2d]", list(self.aspp)):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(cast(Tensor, conv.bias))

    def forward(self, images: Num[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c _ _"]]:
        """Logits at size 1, then at each of ``size.scales`` (each at its own resolution), then the largest."""
        x = _normalised(self, images)
        whole = self.logits(x)
        parts = [self.logits(_resized(x, _scaled(x, scale))) for scale in self.size.scales]
        if not parts:
            return [whole]
        hw = (whole.shape[-2], whole.shape[-1])
        fused = torch.stack([whole, *(_resized(part, hw) for part in parts)]).max(dim=0).values
        return [whole, *parts, fused]

    def logits(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Of one size; ``x`` has ImageNet's colours."""
        features = self.backbone(x)
        return torch.stack([conv(features) for conv in self.aspp]).sum(dim=0)

    def freeze_norm(self) -> None:
        """Batch normalisation keeps its statistics and its parameters, as published: right after pretraining only."""
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


class Borrowed(nn.Module):
    """A semantic-segmentation model of transformers.  Build one with ``borrow``.

    Its logits are brought to the photo's size, where transformers' own losses look at them.
    """

    def __init__(self, model: nn.Module, classes: Sequence[str], colours: Colours = IMAGENET) -> None:
        super().__init__()
        self.model, self.classes, self.colours = model, tuple(classes), colours
        _add_colours(self, colours)

    def forward(self, images: Num[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c h w"]]:
        logits = self.model(pixel_values=_normalised(self, images)).logits
        return [_resized(logits, (images.shape[-2], images.shape[-1]))]

    def is_head(self, parameter: str) -> bool:
        """Whether a parameter stands outside the model's backbone, as transformers draws the line."""
        return not parameter.startswith(f"model.{self.model.base_model_prefix}.")

    def describe(self) -> dict[str, Any]:
        """What, with the model's own files, makes this network again: JSON."""
        architecture = type(self.model).__name__
        colours = self.colours._asdict()
        return {"kind": "transformers", "model": architecture, "classes": list(self.classes), "colours": colours}


Network = DeepLab | Borrowed


def _add_colours(network: nn.Module, colours: Colours) -> None:
    for name, value in colours._asdict().items():
        network.register_buffer(name, torch.tensor(value).reshape(1, 3, 1, 1) * 255, persistent=False)


def _normalised(network: nn.Module, images: Num[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    return (images.float() - network.get_buffer("mean")) / network.get_buffer("std")


def _scaled(x: Float[Tensor, "b c h w"], scale: float) -> tuple[int, int]:
    return max(1, int(x.shape[-2] * scale)), max(1, int(x.shape[-1] * scale))


def _resized(x: Float[Tensor, "b c h w"], size_hw: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
    return F.interpolate(x, size=size_hw, mode="bilinear", align_corners=False)


# ---------------------------------------------------------------------------------------------------------------------
# networks from nothing, from ImageNet, from a folder


def deeplab(size: DeepLabSize, classes: Sequence[str], seed: int = 0) -> DeepLab:
    """A network of random weights, the same for the same seed.

    Its batch normalisation learns; ``load_imagenet`` freezes it.  Raises UsageError for fewer than two classes.
    """
    _check_classes(classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DeepLab(size, classes)


def load_imagenet(network: DeepLab, path: str | os.PathLike[str]) -> None:
    """Take the backbone's weights from a safetensors file in torchvision's layout, and freeze its normalisation.

    ``fc.*`` is left aside; ``num_batches_tracked``, which older files lack and nothing reads, may be missing.
    Raises BackboneError, in one line, when a key is missing, unexpected, of another shape or not finite, and DataError
    when there is no such file.
    """
    given = {key: value for key, value in _tensors(path).items() if not key.startswith("fc.")}
    _fill(network.backbone, given, f"{path}: not torchvision's layout of this ResNet", optional="num_batches_tracked")
    network.freeze_norm()


def borrow(folder: str | os.PathLike[str], classes: Sequence[str], seed: int = 0) -> Borrowed:
    """A model of transformers from a local folder, with a classifier for these classes.

    What does not fit the classes, and a head the folder lacks, starts anew from ``seed``.  Colours are those of the
    folder's ``preprocessor_config.json``, else ImageNet's.  Raises BackboneError when the folder holds no such model,
    only pickled weights, or lacks weights of the backbone; DataError when it is missing.
    """
    _check_classes(classes)
    model, missing = _segmentation_model(Path(folder), len(classes), seed)
    lacking = [key for key in missing if key.startswith(f"{model.base_model_prefix}.")]
    if lacking:
        raise BackboneError(f"{folder} lacks {len(lacking)} weights of the backbone, first {lacking[0]}")
    return Borrowed(model, classes, _folder_colours(Path(folder)))


def _segmentation_model(folder: Path, classes: int, seed: int) -> tuple[Any, list[str]]:
    """The model of a folder and the weights it lacked or that did not fit, which are random."""
    from transformers import AutoModelForSemanticSegmentation

    if not (folder / "config.json").is_file():
        raise DataError(f"{folder} holds no config.json; name a local folder with a model of transformers")
    if not any(folder.glob("*.safetensors")):
        raise BackboneError(f"{folder} holds no safetensors weights (pickled ones are never loaded); convert them")
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(seed)
        try:
            model, info = AutoModelForSemanticSegmentation.from_pretrained(
                folder,
                num_labels=classes,
                ignore_mismatched_sizes=True,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # whatever a folder of another kind provokes in the library: the user mends it
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise BackboneError(f"{folder} holds no semantic-segmentation model of transformers: {reason}") from error
    return model.float(), sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no advice from transformers; what matters is raised."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _folder_colours(folder: Path) -> Colours:
    path = folder / "preprocessor_config.json"
    record = read_json(path) if path.is_file() else {}
    if not record.get("image_mean") or not record.get("image_std"):
        return IMAGENET
    return Colours(tuple(record["image_mean"]), tuple(record["image_std"]))


def save_network(network: Network, folder: str | os.PathLike[str]) -> Path:
    """Write a network as ``network.json`` and safetensors, whole or not at all.  Raises WriteError."""
    with new_folder(folder, overwrite=True, marker="network.json") as temp:
        if isinstance(network, Borrowed):
            with _quiet():
                cast(Any, network.model).save_pretrained(temp)
        else:
            weights = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
            save_file(weights, temp / "network.safetensors")
        write_json(temp / "network.json", {"format": FORMAT, **network.describe()})
    return Path(folder)


def load_network(folder: str | os.PathLike[str]) -> Network:
    """The network of a folder that ``save_network`` or a training run wrote.

    Raises DataError when it is missing, of another format or damaged, BackboneError when its weights do not fit it.
    """
    folder = Path(folder)
    if (folder / "network" / "network.json").is_file():
        folder = folder / "network"
    record = read_json(folder / "network.json")
    try:
        if record["format"] != FORMAT:
            raise DataError(f"{folder}: network format {record['format']}, this version reads {FORMAT}; train it again")
        classes = [str(name) for name in record["classes"]]
        colours = Colours(tuple(record["colours"]["mean"]), tuple(record["colours"]["std"]))
        if record["kind"] == "transformers":
            model, missing = _segmentation_model(folder, len(classes), seed=0)
            if missing:
                raise BackboneError(f"{folder} lacks {len(missing)} weights, first {missing[0]}; train it again")
            return Borrowed(model, classes, colours)
        sizes: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record["size"].items()}
        network = DeepLab(DeepLabSize(**sizes), classes, colours)
        frozen = bool(record["norm_frozen"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder}/network.json describes no network ({error!r}); train it again") from None
    weights = folder / "network.safetensors"
    _fill(network, _tensors(weights), f"{weights}: not the network of network.json")
    if frozen:
        network.freeze_norm()
    return network


def _check_classes(classes: Sequence[str]) -> None:
    if not 2 <= len(classes) <= 255:
        raise UsageError(f"{len(classes)} classes; from 2 to 255, the first is the background and label 255 is void")


def _tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except OSError as error:
        raise DataError(cannot_read(path, error)) from None
    except SafetensorError as error:
        raise BackboneError(
            f"{path} is not a safetensors file ({error}); it was cut short, or is a pickle, which is never loaded"
        ) from None


def _fill(module: nn.Module, given: Mapping[str, Tensor], what: str, optional: str | None = None) -> None:
    """Copy weights into a module: every key, no other key, the same shapes, finite.  Raises BackboneError."""
    wanted = module.state_dict()
    missing = [k for k in wanted if k not in given and not (optional and k.endswith(optional))]
    unexpected = [k for k in given if k not in wanted]
    if missing or unexpected:
        lacks = f"lacks {missing[0]} (first of {len(missing)})" if missing else ""
        has = f"has the unknown {unexpected[0]} (first of {len(unexpected)})" if unexpected else ""
        raise BackboneError(f"{what}: it {' and '.join(part for part in (lacks, has) if part)}")
    for key, value in given.items():
        if value.shape != wanted[key].shape:
            shapes = f"{tuple(value.shape)}, not {tuple(wanted[key].shape)}"
            raise BackboneError(f"{what}: {key} is {shapes}; weights of another size")
        if not torch.isfinite(value).all():
            raise BackboneError(f"{what}: {key} holds NaN or infinity; the file is damaged")
    module.load_state_dict(dict(given), strict=False)
