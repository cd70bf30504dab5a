"""DeepLab v2, its training and its answers: networks of a few thousand weights, pictures of a few hundred pixels."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from prisbench.errors import BackboneError, DataError, UnknownNameError, UsageError
from prisbench.localizer.refine import EMBEDDED_CRF, dense_crf
from prisbench.wsss.borrowed import Borrowed, borrow
from prisbench.wsss.crops import batches, sample_at, training_crop
from prisbench.wsss.deeplab import SIZES, DeepLab, DeepLabSize, ResNet, deeplab
from prisbench.wsss.networks import load_imagenet, load_network, save_network
from prisbench.wsss.predict import PredictSettings, class_probabilities, predict
from prisbench.wsss.samples import Sample
from prisbench.wsss.schedule import PRESETS, TrainSettings, loss_of, parameter_groups, rate_at
from prisbench.wsss.train import Progress, cost, train

TINY = DeepLabSize("basic", (1, 1, 1, 1), width=4, rates=(1, 2))
NAMES = ("background", "red", "blue")
QUICK = TrainSettings(
    steps=6, batch=4, accumulate=2, crop_hw=(24, 32), lr=0.02, poly_every=2, workers=2, log_every=4, seed=5
)


def tiny(size: DeepLabSize = TINY, seed: int = 0) -> DeepLab:
    return deeplab(size, NAMES, seed)


def picture(n: int, hw: tuple[int, int] = (24, 32)) -> tuple[np.ndarray, np.ndarray]:
    """A grey ground with a red box and a blue one on a grid of 7 x 9 cells, and a line of void above the red."""
    h, w = hw
    image = np.random.default_rng(n).integers(90, 130, (h, w, 3)).astype(np.uint8)
    labels = np.zeros(hw, np.uint8)
    rows = slice(round(h / 7), round(6 * h / 7))
    for value, colour, left in ((1, (220, 30, 30), n), (2, (30, 30, 220), n + 4)):
        columns = slice(round(left * w / 9), round((left + 3) * w / 9))
        image[rows, columns], labels[rows, columns] = colour, value
    labels[rows.start - 1, : w // 3] = 255
    return image, labels


def samples(number: int = 3, hw: tuple[int, int] = (24, 32)) -> list[Sample]:
    return [
        Sample(f"s{n}", lambda n=n: picture(n, hw)[0], lambda n=n: picture(n, hw)[1])  # type: ignore[misc]
        for n in range(number)
    ]


def photos(n: int, hw: tuple[int, int]) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, *hw), generator=torch.Generator().manual_seed(n), dtype=torch.uint8)


def stop_after(steps: int) -> Callable[[Progress], None]:
    def report(now: Progress) -> None:
        if now.step == steps:
            raise KeyboardInterrupt

    return report


# the network ----------------------------------------------------------------------------------------------------------


def torchvision_bottlenecks(depths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Parameters and shapes of torchvision's ResNet of bottlenecks, without ``fc``, by its rule."""

    def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.{part}": (channels,) for part in ("weight", "bias")}

    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    inputs = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for i in range(depth):
            at = f"layer{stage + 1}.{i}"
            shapes |= {f"{at}.conv1.weight": (width, inputs, 1, 1), **norm(f"{at}.bn1", width)}
            shapes |= {f"{at}.conv2.weight": (width, width, 3, 3), **norm(f"{at}.bn2", width)}
            shapes |= {f"{at}.conv3.weight": (4 * width, width, 1, 1), **norm(f"{at}.bn3", 4 * width)}
            if i == 0:
                shapes |= {f"{at}.downsample.0.weight": (4 * width, inputs, 1, 1)}
                shapes |= norm(f"{at}.downsample.1", 4 * width)
            inputs = 4 * width
    return shapes


def test_the_resnet_101_has_torchvisions_parameters() -> None:
    with torch.device("meta"):
        network = DeepLab(SIZES["resnet101"], [str(i) for i in range(21)])
    found = {name: tuple(p.shape) for name, p in network.backbone.named_parameters()}
    assert found == torchvision_bottlenecks((3, 4, 23, 3))
    fc = 2048 * 1000 + 1000
    assert sum(math.prod(shape) for shape in found.values()) + fc == 44_549_160
    assert [conv.dilation for conv in network.aspp] == [(6, 6), (12, 12), (18, 18), (24, 24)]
    assert network.backbone.layer3[5].conv2.dilation == (2, 2)
    assert network.backbone.layer4[2].conv2.dilation == (4, 4)
    assert tiny().eval()(torch.zeros(1, 3, 321, 241))[0].shape == (1, 3, 41, 31)


def test_the_laptop_network_is_as_small_as_it_says() -> None:
    with torch.device("meta"):
        network = DeepLab(SIZES["laptop"], NAMES)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(1.6e6, abs=0.05e6)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_dilation_computes_what_the_strided_network_computes_and_the_places_between(block: str) -> None:
    sizes = [DeepLabSize(block, (1, 2, 2, 2), width=4, output_stride=stride) for stride in (8, 16, 32)]
    nets = [ResNet(size).eval() for size in sizes]
    for net in nets[1:]:
        net.load_state_dict(nets[0].state_dict())
    x = torch.randn(1, 3, 66, 98, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        dense, half, strided = (net(x) for net in nets)
    assert dense.shape[-2:] == (9, 13)
    assert strided.abs().max() > 0.01
    torch.testing.assert_close(dense[..., ::2, ::2], half, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(dense[..., ::4, ::4], strided, atol=1e-5, rtol=1e-4)


def test_the_answer_is_the_largest_of_three_scales() -> None:
    network, images = tiny().eval(), photos(2, (41, 57))
    with torch.no_grad():
        whole, three_quarters, half, fused = network(images)
        mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        x = (images / 255 - mean) / std
        by_hand = []
        for size in ((41, 57), (30, 42), (20, 28)):
            logits = network.logits(F.interpolate(x, size=size, mode="bilinear"))
            by_hand.append(F.interpolate(logits, size=(6, 8), mode="bilinear"))
    assert [tuple(part.shape[-2:]) for part in (whole, three_quarters, half, fused)] == [(6, 8), (4, 6), (3, 4), (6, 8)]
    torch.testing.assert_close(fused, torch.maximum(torch.maximum(by_hand[0], by_hand[1]), by_hand[2]))
    assert not torch.equal(fused, whole)


def test_imagenet_weights_are_taken_and_their_normalisation_frozen(tmp_path: Path) -> None:
    donor = ResNet(TINY)
    torch.nn.init.normal_(donor.get_parameter("bn1.weight"))
    old = {k: v for k, v in donor.state_dict().items() if not k.endswith("num_batches_tracked")}
    path = tmp_path / "resnet.safetensors"
    save_file(old | {"fc.weight": torch.zeros(1000, 32), "fc.bias": torch.zeros(1000)}, path)
    network = tiny().train()
    assert network.backbone.bn1.training
    load_imagenet(network, path)
    assert all(torch.equal(network.backbone.state_dict()[k], v) for k, v in old.items())
    before = network.backbone.bn1.running_mean.clone()
    network.train()(photos(1, (24, 32)))
    assert torch.equal(network.backbone.bn1.running_mean, before)
    assert not network.backbone.bn1.weight.requires_grad and network.backbone.conv1.weight.requires_grad


def test_weights_of_another_layout_are_one_clear_line(tmp_path: Path) -> None:
    path, good = tmp_path / "w.safetensors", ResNet(TINY).state_dict()

    def message(weights: dict[str, torch.Tensor]) -> str:
        save_file(weights, path)
        with pytest.raises(BackboneError) as raised:
            load_imagenet(tiny(), path)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    renamed = {f"stem.{k}" if k.startswith("conv1") else k: v for k, v in good.items()}
    assert message(renamed) == (
        f"{path}: not torchvision's layout of this ResNet: it lacks conv1.weight (first of 1) "
        "and has the unknown stem.conv1.weight (first of 1)"
    )
    assert "bn1.bias is (9,), not (4,); weights of another size" in message(good | {"bn1.bias": torch.zeros(9)})
    assert "bn1.bias holds NaN" in message(good | {"bn1.bias": torch.full((4,), math.nan)})
    assert "has the unknown extra (first of 1)" in message(good | {"extra": torch.zeros(1)})
    path.write_bytes(b"\x80\x02not safetensors at all")
    with pytest.raises(BackboneError, match=r"w\.safetensors is not a safetensors file .* or is a pickle"):
        load_imagenet(tiny(), path)
    with pytest.raises(DataError, match=r"none\.safetensors does not exist"):
        load_imagenet(tiny(), tmp_path / "none.safetensors")


def test_a_network_comes_back_from_its_folder(tmp_path: Path) -> None:
    network, images = tiny().eval(), photos(1, (24, 40))
    network.freeze_norm()
    save_network(network, tmp_path / "n")
    again = load_network(tmp_path / "n")
    assert isinstance(again, DeepLab) and again.describe() == network.describe() and again.norm_frozen
    assert torch.equal(again.eval()(images)[-1], network(images)[-1])
    record = json.loads((tmp_path / "n" / "network.json").read_text())
    (tmp_path / "n" / "network.json").write_text(json.dumps(record | {"classes": ["a", "b"]}))
    with pytest.raises(
        BackboneError, match=r"network\.safetensors: not the network of network\.json: aspp\.0\.bias is"
    ):
        load_network(tmp_path / "n")
    (tmp_path / "n" / "network.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(DataError, match="describes no network"):
        load_network(tmp_path / "n")


def test_sizes_that_make_no_network_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown block 'botleneck': did you mean 'bottleneck'"):
        DeepLabSize("botleneck")
    with pytest.raises(UsageError, match="output stride of 12"):
        DeepLabSize(output_stride=12)
    with pytest.raises(UsageError, match="1 classes; from 2 to 255"):
        deeplab(TINY, ["background"])


# models of transformers -----------------------------------------------------------------------------------------------


def save_segformer(folder: Path, labels: int) -> Path:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[1, 1],
        decoder_hidden_size=8,
        num_labels=labels,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        SegformerForSemanticSegmentation(config).save_pretrained(folder)
    return folder


def test_a_model_of_transformers_is_trained_and_asked_alike(tmp_path: Path) -> None:
    source = save_segformer(tmp_path / "source", labels=7)
    colours = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (source / "preprocessor_config.json").write_text(json.dumps(colours))
    network = borrow(source, NAMES)
    assert network.colours.mean == (0.5, 0.5, 0.5)
    assert network(photos(1, (24, 36)))[0].shape == (1, 3, 24, 36)
    settings = dataclasses.replace(QUICK, steps=2, optimizer="adamw")
    factors = {
        network_name: group["factor"]
        for group in parameter_groups(network, settings)
        for network_name, p in network.named_parameters()
        if any(p is q for q in group["params"])
    }
    assert {factors[k] for k in factors if k.startswith("model.segformer.")} == {1.0}
    assert factors["model.decode_head.classifier.weight"] == 10.0
    with pytest.raises(KeyboardInterrupt):
        train(borrow(source, NAMES), samples(), tmp_path / "run", settings, progress=stop_after(1))
    train(borrow(source, NAMES), samples(), tmp_path / "run", settings)
    train(network, samples(), tmp_path / "whole", settings)  # its dropout draws the same
    states = [load_file(tmp_path / run / "state.safetensors") for run in ("run", "whole")]
    assert states[0].keys() == states[1].keys() and "exp_avg.model.decode_head.classifier.weight" in states[0]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    again = load_network(tmp_path / "whole")
    assert isinstance(again, Borrowed) and again.colours == network.colours
    image = picture(1, (24, 40))[0]
    one, two = (class_probabilities(n.eval(), image, PredictSettings()) for n in (network, again))
    assert np.array_equal(one, two)


def test_folders_without_a_usable_model_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing holds no config\.json"):
        borrow(tmp_path / "nothing", NAMES)
    folder = save_segformer(tmp_path / "m", labels=3)
    weights = load_file(folder / "model.safetensors")
    lost = next(k for k in weights if k.startswith("segformer."))
    save_file({k: v for k, v in weights.items() if k != lost}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match="lacks 1 weights of the backbone, first segformer"):
        borrow(folder, NAMES)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(BackboneError, match="holds no safetensors weights"):
        borrow(folder, NAMES)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "clip_text_model"}))
    with pytest.raises(BackboneError, match="holds no semantic-segmentation model of transformers"):
        borrow(folder, NAMES)


# crops ----------------------------------------------------------------------------------------------------------------


def test_every_sample_comes_once_before_any_comes_again() -> None:
    seen = [sample_at(position, 5, seed=1) for position in range(15)]
    assert [sorted(seen[i : i + 5]) for i in (0, 5, 10)] == [[0, 1, 2, 3, 4]] * 3
    assert len({tuple(seen[i : i + 5]) for i in (0, 5, 10)}) > 1
    assert seen != [sample_at(position, 5, seed=2) for position in range(15)]


def test_crops_cut_photo_and_labels_alike_and_pad_with_void() -> None:
    """Red holds the label of its pixel, green its row, blue its column: the crop is found again in the photo."""
    h, w = 20, 26
    labels = np.random.default_rng(0).integers(0, 3, (h, w)).astype(np.uint8)
    rows, columns = np.mgrid[:h, :w].astype(np.uint8)
    sample = Sample("x", lambda: np.stack([labels, rows, columns], axis=-1), lambda: labels)
    settings = TrainSettings(crop_hw=(16, 32), scales=(1.0,))
    flips, tops = set(), set()
    for position in range(12):
        crop = training_crop(sample, settings, position, classes=3, fill=(9, 200, 201))
        image, truth = (crop.image, crop.labels)
        flipped = bool(image[0, 0, 2] == 201)
        if flipped:
            image, truth = image[:, ::-1], truth[:, ::-1]
        top = int(image[0, 0, 1])
        assert np.array_equal(image[:, :w, 0], labels[top : top + 16])
        assert np.array_equal(truth[:, :w], labels[top : top + 16])
        assert (truth[:, w:] == 255).all() and (image[:, w:] == (9, 200, 201)).all()
        flips.add(flipped)
        tops.add(top)
    assert flips == {True, False} and len(tops) > 2 and max(tops) <= 4


def test_scaled_labels_stay_labels() -> None:
    settings = TrainSettings(crop_hw=(60, 70), scales=(0.5, 1.5))
    heights = set()
    for position in range(8):
        crop = training_crop(samples(1, (40, 44))[0], settings, position, classes=3, fill=(0, 0, 0))
        assert set(np.unique(crop.labels)) <= {0, 1, 2, 255}
        heights.add(int((crop.image.sum(axis=2) > 0).any(axis=1).sum()))
    assert heights == {20, 60}


def test_the_order_of_the_data_owes_nothing_to_workers_starts_or_processes() -> None:
    network, data = tiny(), samples(5)

    def take(workers: int, number: int, **where: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        source = batches(network, data, dataclasses.replace(QUICK, workers=workers), **where)
        taken = [next(source) for _ in range(number)]
        source.close()
        return taken

    def same(a: list[tuple[torch.Tensor, ...]], b: list[tuple[torch.Tensor, ...]]) -> bool:
        return all(torch.equal(x, y) for one, two in zip(a, b, strict=True) for x, y in zip(one, two, strict=True))

    alone = take(0, 4)
    assert same(alone, take(3, 4))
    assert same(alone[2:], take(2, 2, start=2))
    shares = [take(1, 4, rank=rank, world=2) for rank in (0, 1)]
    assert same(
        alone, [tuple(torch.cat(pair) for pair in zip(*both, strict=True)) for both in zip(*shares, strict=True)]
    )
    assert not same(alone[:2], alone[2:])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "odd has no labels to learn from"),
        (np.zeros((6, 9), np.uint8), "odd: the labels are 9 x 6, not 8 x 6 as its photo"),
        (np.full((6, 8), 21, np.uint8), "odd: label 21 on 48 pixels; the classes are 0 to 2, void is 255"),
    ],
)
def test_labels_that_cannot_be_learned_are_named(labels: np.ndarray | None, message: str, tmp_path: Path) -> None:
    odd = Sample("odd", lambda: np.zeros((6, 8, 3), np.uint8), lambda: labels)
    with pytest.raises(DataError, match=message):
        train(tiny(), [odd], tmp_path, QUICK)


# loss and schedule ----------------------------------------------------------------------------------------------------


def test_void_pixels_have_no_gradient_and_a_void_crop_no_loss() -> None:
    logits = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.randint(0, 3, (2, 4, 6), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    labels[:, :, 2] = 255
    loss = loss_of([logits], labels, ignore=255)
    assert loss.item() == pytest.approx(F.cross_entropy(logits, labels.long(), ignore_index=255).item())
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[:, :, :, 2] == 0).all()
    assert (logits.grad[:, :, :, 3].abs().sum(dim=1) > 0).all()
    nothing = loss_of([logits], torch.full_like(labels, 255), ignore=255)
    assert nothing.item() == 0
    nothing.backward()
    assert torch.isfinite(logits.grad).all()


def test_the_loss_is_the_sum_over_all_scales() -> None:
    from PIL import Image

    outputs = tiny().train()(photos(1, (40, 56)))
    labels = torch.randint(0, 3, (1, 40, 56), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    by_hand = 0.0
    for logits in outputs:  # the published code lets Pillow make the labels smaller
        small = Image.fromarray(labels[0].numpy()).resize((logits.shape[3], logits.shape[2]), Image.Resampling.NEAREST)
        by_hand += F.cross_entropy(logits, torch.from_numpy(np.array(small))[None].long()).item()
    assert len(outputs) == 4
    assert loss_of(outputs, labels, ignore=255).item() == pytest.approx(by_hand, rel=1e-5)


def test_the_published_schedule() -> None:
    voc = PRESETS["voc12"]
    assert (voc.steps, voc.batch, voc.lr, voc.momentum, voc.weight_decay) == (20_000, 10, 2.5e-4, 0.9, 5e-4)
    assert rate_at(0, voc) == rate_at(9, voc) == 1
    assert rate_at(10_005, voc) == rate_at(10_000, voc) == pytest.approx(0.5**0.9)
    assert rate_at(19_999, voc) == pytest.approx((10 / 20_000) ** 0.9)
    network = tiny()
    network.freeze_norm()
    names = {id(p): name for name, p in network.named_parameters()}
    groups = {g["lr"]: (g["weight_decay"], {names[id(p)] for p in g["params"]}) for g in parameter_groups(network, voc)}
    assert groups.keys() == {2.5e-4, 2.5e-3, 5e-3}
    assert groups[2.5e-3] == (5e-4, {"aspp.0.weight", "aspp.1.weight"})
    assert groups[5e-3] == (0.0, {"aspp.0.bias", "aspp.1.bias"})
    convolutions = {k for k, p in network.backbone.named_parameters() if p.ndim == 4}
    assert groups[2.5e-4] == (5e-4, {f"backbone.{k}" for k in convolutions})


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="a batch of 10 cannot be taken in 3 equal parts"):
        TrainSettings(accumulate=3)
    with pytest.raises(UnknownNameError, match="unknown precision 'bfloat'"):
        TrainSettings(precision="bfloat")
    with pytest.raises(UnknownNameError, match="unknown optimizer 'adam': did you mean 'adamw'"):
        TrainSettings(optimizer="adam")
    with pytest.raises(UsageError, match=r"no training is possible with .*steps=0"):
        TrainSettings(steps=0)
    with pytest.raises(UsageError, match="no prediction is possible with"):
        PredictSettings(scales=())


# training -------------------------------------------------------------------------------------------------------------


def test_a_run_interrupted_anywhere_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = train(tiny(), samples(), tmp_path / "whole", QUICK)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), samples(), tmp_path / "parts", QUICK, progress=stop_after(3))
    assert not (tmp_path / "parts" / "network").exists()

    network, calls = tiny(), iter(range(100))

    def interrupt(*_: object) -> None:  # in the fifth step, when some normalisation has already counted its crops
        if next(calls) == 3:
            raise KeyboardInterrupt

    handle = network.backbone.get_submodule("layer3").register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(network, samples(), tmp_path / "parts", dataclasses.replace(QUICK, workers=0))
    handle.remove()
    parts = train(tiny(), samples(), tmp_path / "parts", QUICK)

    one, two = (load_file(run.folder / "state.safetensors") for run in (whole, parts))
    assert "momentum_buffer.aspp.0.weight" in one and "network.backbone.bn1.running_mean" in one
    assert one.keys() == two.keys()
    assert [k for k in one if not torch.equal(one[k], two[k])] == []
    assert not torch.equal(one["network.aspp.0.weight"], tiny().state_dict()["aspp.0.weight"])
    logs = [json.loads((run.folder / "log.json").read_text()) for run in (whole, parts)]
    one_log, two_log = ([(row["step"], row["loss"]) for row in log] for log in logs)
    assert one_log == two_log and [step for step, _ in one_log] == [4, 6]
    assert 0 <= parts.waiting_share <= 1 and parts.seconds > 0
    saved = load_network(whole.folder).state_dict()
    assert all(torch.equal(saved[k], one[f"network.{k}"]) for k in saved)


def test_a_finished_run_is_only_read(tmp_path: Path) -> None:
    short = dataclasses.replace(QUICK, steps=1)
    first = train(tiny(), samples(), tmp_path, short)
    before = (tmp_path / "state.safetensors").read_bytes()
    network = tiny()
    assert train(network, samples(), tmp_path, short, progress=stop_after(1)) == first
    assert (tmp_path / "state.safetensors").read_bytes() == before
    assert torch.equal(network.aspp[0].weight, load_network(tmp_path).get_parameter("aspp.0.weight"))


def test_a_folder_of_another_run_is_left_alone(tmp_path: Path) -> None:
    short = dataclasses.replace(QUICK, steps=1)
    train(tiny(), samples(), tmp_path, short)
    with pytest.raises(DataError, match=r"holds another run \(settings\.lr is 0\.02, asked for 0\.5\)"):
        train(tiny(), samples(), tmp_path, dataclasses.replace(short, lr=0.5))
    with pytest.raises(DataError, match=r"holds another run \(samples\.number is 3, asked for 2\)"):
        train(tiny(), samples(2), tmp_path, short)
    with pytest.raises(DataError, match="weights_at_start"):
        train(tiny(seed=1), samples(), tmp_path, short)
    train(tiny(), samples(), tmp_path, dataclasses.replace(short, workers=0, log_every=9))
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"state\.safetensors is damaged .* delete it to begin this run anew"):
        train(tiny(), samples(), tmp_path, short)
    with pytest.raises(DataError, match="the list of samples is empty"):
        train(tiny(), [], tmp_path, short)


def test_a_loss_that_is_no_number_is_said_and_not_saved(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"the loss is (nan|inf) at step \d+; lower the learning rate"):
        train(tiny(), samples(), tmp_path, dataclasses.replace(QUICK, lr=1e30))
    assert not (tmp_path / "state.safetensors").exists()


def test_a_tiny_network_learns_two_pictures_by_heart(tmp_path: Path) -> None:
    size = DeepLabSize("basic", (1, 1, 1, 1), width=8, output_stride=4, rates=(1,), scales=(0.75,))
    settings = TrainSettings(
        steps=60, batch=2, accumulate=1, crop_hw=(24, 32), scales=(1.0,), flip=False, lr=0.02, head_weight_lr=1.0,
        head_bias_lr=1.0,
    )  # fmt: skip
    data, network = samples(2), deeplab(size, NAMES)
    losses: list[float] = []
    train(network, data, tmp_path, settings, progress=lambda now: losses.append(now.loss))
    assert losses[-1] < losses[0] / 5
    confusion = np.zeros((3, 3))
    for sample, answer in zip(data, predict(network, data, PredictSettings(workers=0)), strict=True):
        truth = sample.load_labels()
        assert truth is not None
        np.add.at(confusion, (truth[truth != 255], answer.labels[truth != 255]), 1)
    iou = np.diag(confusion) / (confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion))
    assert iou.mean() > 0.9


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_keeps_the_weights_whole(precision: str, tmp_path: Path) -> None:
    network = tiny()
    train(network, samples(), tmp_path, dataclasses.replace(QUICK, steps=2, precision=precision))
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert not torch.equal(network.aspp[0].weight, tiny().aspp[0].weight)


def test_the_cost_is_measured_without_a_trace() -> None:
    network = tiny()
    measured = cost(network, QUICK)
    assert measured.seconds == pytest.approx(measured.seconds_per_step * 6) and measured.seconds > 0
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), tiny().state_dict().values(), strict=True)
    )
    assert all(p.grad is None for p in network.parameters())
    line = measured._replace(seconds=7200.0, seconds_per_step=1.5, gpu_bytes=12_340_000_000).line(QUICK)
    assert line == (
        "training: 6 steps of 4 crops of 32 x 24, about 1.50 s each, 12.3 GB of GPU memory: 2.0 hours in all; "
        "interrupt it at will, the same command goes on"
    )


ONE_OF_TWO = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.test_wsss_train import frozen, samples, QUICK
from prisbench.wsss.train import train
import dataclasses
train(frozen(), samples(5), Path(sys.argv[1]), dataclasses.replace(QUICK, accumulate=1))
"""


def frozen() -> DeepLab:
    network = tiny()
    network.freeze_norm()
    return network


@pytest.mark.slow
def test_two_processes_train_the_same_network_as_one(tmp_path: Path) -> None:
    """Each takes one of the two parts that one process would take after the other."""
    train(frozen(), samples(5), tmp_path / "one", QUICK)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    root = str(Path(__file__).parents[1])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_TWO, str(tmp_path / "two"), root],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=root,
        )
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=600) for process in running] == [0, 0]
    one, two = (load_file(tmp_path / run / "state.safetensors") for run in ("one", "two"))
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=1e-4, msg=key)


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match="a batch of 4 cannot be shared by 3 processes in 2 parts each"):
        train(tiny(), samples(), tmp_path, QUICK)


# predicting -----------------------------------------------------------------------------------------------------------


def test_scales_and_flips_are_averaged_at_the_photos_own_size() -> None:
    network, image = tiny().eval(), picture(2, (26, 38))[0]
    x = torch.tensor(image).permute(2, 0, 1)[None].float()
    total = torch.zeros(3, 26, 38)
    with torch.no_grad():
        for size in ((26, 38), (13, 19)):
            for flip in (False, True):
                view = F.interpolate(x, size=size, mode="bilinear")
                logits = network(view.flip(-1) if flip else view)[-1]
                softmax = F.interpolate(logits, size=(26, 38), mode="bilinear").softmax(dim=1)[0]
                total += softmax.flip(-1) if flip else softmax
    found = class_probabilities(network, image, PredictSettings(scales=(1.0, 0.5), flip=True))
    np.testing.assert_allclose(found, (total / 4).numpy(), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def test_prediction_goes_on_after_what_is_done_and_keeps_the_order() -> None:
    network = tiny()
    data = [sample for hw in ((24, 32), (30, 20)) for sample in samples(3, hw)]
    data = [sample._replace(id=f"{i}") for i, sample in enumerate(data)]
    answers = list(predict(network, data, PredictSettings(), done=lambda name: name in ("0", "4")))
    assert [answer.id for answer in answers] == ["1", "2", "3", "5"]
    assert [answer.labels.shape for answer in answers] == [(24, 32), (24, 32), (30, 20), (30, 20)]
    for answer in answers:
        image = data[int(answer.id)].load_image()
        expected = class_probabilities(network, image, PredictSettings()).argmax(axis=0)
        assert answer.labels.dtype == np.uint8 and np.array_equal(answer.labels, expected)
        assert np.array_equal(answer.labels, answer.labels_before_crf)


def test_the_crf_in_another_process_is_the_crf() -> None:
    pytest.importorskip("pydensecrf")
    network, data = tiny(), samples(2)
    settings = PredictSettings(crf=EMBEDDED_CRF, workers=1)
    answers = list(predict(network, data, settings))
    for sample, answer in zip(data, answers, strict=True):
        probabilities = class_probabilities(network, sample.load_image(), settings)
        refined = dense_crf(sample.load_image(), probabilities, EMBEDDED_CRF).argmax(axis=0)
        assert np.array_equal(answer.labels, refined)
        assert np.array_equal(answer.labels_before_crf, probabilities.argmax(axis=0))
    assert any((answer.labels != answer.labels_before_crf).any() for answer in answers)
