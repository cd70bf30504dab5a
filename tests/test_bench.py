"""The bench's reference is the published procedure, and what it prints is measured as it says."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn

from prisbench.bench import models, process
from prisbench.bench.localizer import Comparison, compare, our_maps, peak_of, render
from prisbench.bench.network import bare_network, calls_of, compiled_forwards, last_layer
from prisbench.bench.process import measure
from prisbench.bench.published import MapJob, dense_attention, dense_bytes, make_job, plain_pass, reference_maps
from prisbench.bench.scene import scene_multiple
from prisbench.cli import main as cli
from prisbench.diffusion.attention import transformer_blocks
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.loading import load_backbone
from prisbench.diffusion.text import Conditioning
from prisbench.errors import UnknownNameError, UsageError
from prisbench.localizer.background import with_background
from prisbench.localizer.presets import preset
from prisbench.speed.lean import in_place

GOLDEN = Path(__file__).parent / "data" / "golden"
CASES = sorted(GOLDEN.glob("case_*.json"))
LINUX = sys.platform.startswith("linux")


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    unet = UNet2DConditionModel.from_config(json.loads((GOLDEN / "unet_config.json").read_text()))
    weights = load_file(GOLDEN / "unet_fp16.safetensors")
    unet.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return unet.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("bench") / "tiny")


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return load_backbone(folder)


def golden_job(unet: UNet2DConditionModel, path: Path) -> tuple[MapJob, dict[str, torch.Tensor]]:
    case, tensors = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
    blocks = list(transformer_blocks(unet))
    settings = dataclasses.replace(
        preset("paper", "sd"),
        timesteps=(case["timestep"],),
        samples=len(tensors["noise"]),
        cross={blocks[i]: 1.0 for i in case["layers_cross"]},
        self_block=blocks[case["layer_self"]],
        theta=case["theta"],
        tau=case["tau"],
    )
    text = tensors["text_embeddings"]
    return MapJob(
        unet=unet,
        alphas_cumprod=DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).alphas_cumprod,
        latents=tensors["latents"],
        eps=tensors["noise"],
        text=Conditioning(text, None),
        unconditional=Conditioning(torch.randn(text.shape, generator=torch.Generator().manual_seed(0)), None),
        spans=tuple(tuple(span) for span in case["spans"]),
        settings=settings,
    ), tensors


def reached(unet: nn.Module) -> tuple[list[str], Any]:
    """Names of the U-Net's last layer, each time it is called."""
    seen: list[str] = []
    return seen, unet.conv_out.register_forward_hook(lambda *_: seen.append("conv_out"))  # type: ignore[union-attr]


# --- the two sides --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_reference_gives_the_published_maps_and_ours_agrees_with_it(path: Path, unet: UNet2DConditionModel) -> None:
    job, tensors = golden_job(unet, path)
    with calls_of(unet) as calls:
        reference = reference_maps(job)
    assert (reference - tensors["self_cross"]).abs().max() <= 5e-3
    fields = with_background(reference.numpy(), job.settings.rule, job.settings.tau)
    label = torch.from_numpy(fields).argmax(0)
    assert (label == tensors["label"]).float().mean() >= 0.985
    assert [len(call.args[0]) for call in calls] == [2] * len(job.eps), "both halves, noises one by one"
    # On these weights rounding alone moves the reference's own maps by 2e-3 (in float64 the two sides agree to 1e-4).
    assert (our_maps(job) - reference).abs().max() <= 5e-3


def test_the_reference_runs_the_whole_network_and_holds_every_matrix(unet: UNet2DConditionModel) -> None:
    job, _ = golden_job(unet, CASES[0])
    seen, handle = reached(unet)
    with handle, dense_attention(unet) as kept, torch.no_grad():
        plain_pass(job, job.latents.expand(2, -1, -1, -1), [job.unconditional, job.text])
    assert seen == ["conv_out"]
    assert set(kept) == {(name, part) for name in transformer_blocks(unet) for part in ("attn1", "attn2")}
    h, w = job.latents.shape[-2:]
    assert kept["down.0.0", "attn1"].shape == (2, h * w, h * w)
    assert kept["down.0.0", "attn2"].shape == (2, h * w, job.text.states.shape[1])
    for matrix in kept.values():  # rows of attention, and of its square, sum to one
        assert torch.allclose(matrix.sum(-1), torch.ones(()), atol=1e-4)


def test_processors_are_back_after_the_reference_and_after_an_error(unet: UNet2DConditionModel) -> None:
    before = dict(unet.attn_processors)
    with pytest.raises(ZeroDivisionError), dense_attention(unet):
        assert unet.attn_processors != before
        raise ZeroDivisionError
    assert unet.attn_processors == before


def test_the_floor_makes_our_calls_again_and_ends_where_ours_ends(unet: UNet2DConditionModel) -> None:
    job, _ = golden_job(unet, CASES[0])
    with calls_of(unet) as ours:
        our_maps(job)
    name, layer = last_layer(unet, job.settings)
    assert name == job.settings.self_block
    seen, handle = reached(unet)
    after = []
    with handle, layer.to_v.register_forward_hook(lambda *_: after.append("values")), calls_of(unet) as again:
        bare_network(unet, ours, layer)
    assert (seen, after) == ([], [])
    assert len(again) == len(ours) and all(a.args[0] is b.args[0] for a, b in zip(ours, again, strict=True))
    cross_only = dataclasses.replace(job.settings, hops=0)
    assert last_layer(unet, cross_only)[0] == list(job.settings.cross)[-1]


def test_the_reference_reads_text_where_a_block_has_no_self_attention(backbone: Backbone) -> None:
    job = make_job(backbone, (112, 144), 2)
    assert not all(block.has_self_attention for block in transformer_blocks(job.unet).values())
    assert (our_maps(job) - reference_maps(job)).abs().max() <= 1e-3


@pytest.mark.parametrize(("kind", "rounding"), [("sd2", 1e-3), ("sdxl", 5e-2)])
def test_both_sides_agree_on_other_models(kind: str, rounding: float, tmp_path: Path) -> None:
    """Through SDXL's many random layers rounding grows: in float64 the reference itself moves by 1e-2."""
    other = load_backbone(tiny.save(tmp_path / kind, kind=kind))
    job = make_job(other, (128, 192), 1)
    assert (job.text.added is not None) == (kind == "sdxl")
    assert (our_maps(job) - reference_maps(job)).abs().max() <= rounding


# --- torch.compile --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_compiled_parts_hold_no_hook_and_change_no_map(backbone: Backbone) -> None:
    job = make_job(backbone, (64, 80), 1)
    plain = our_maps(job)
    forwards = compiled_forwards(job, backend="eager")
    inside = {module for part in forwards for module in part.modules()}
    blocks = transformer_blocks(job.unet)
    assert inside and not inside & {blocks[name].module.attn2 for name in job.settings.cross}
    assert blocks[job.settings.self_block].module.attn1 not in inside
    count = sum(len(list(part.parameters())) for part in forwards)
    assert count > 0.7 * len(list(job.unet.parameters())), "most of the network is compiled"
    with in_place(forwards):
        assert all("forward" in vars(part) for part in forwards)
        assert (our_maps(job) - plain).abs().max() <= 1e-4
    assert not any("forward" in vars(part) for part in forwards)


# --- seconds and bytes ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not LINUX, reason="peak memory is known on Linux only")
def test_peak_memory_is_what_a_call_takes_at_its_worst_and_forgets_what_was_before() -> None:
    def take(megabytes: int) -> int:
        return int(torch.ones(megabytes * 2**20 // 4).sum())

    take(300)
    result, seconds, peak = measure(lambda: take(100))
    assert result == 100 * 2**20 // 4 and seconds > 0
    assert peak is not None and 95e6 < peak < 140e6


def test_memory_that_cannot_be_known_is_null(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "PROC", tmp_path)
    assert measure(lambda: 1).peak_bytes is None
    assert process.free_bytes() is None


def test_the_largest_matrices_are_foreseen(unet: UNet2DConditionModel) -> None:
    job, _ = golden_job(unet, CASES[0])
    h, w = job.latents.shape[-2:]
    halves, heads, float32 = 2, 8, 4
    scores_and_probabilities = 2 * halves * heads * (h * w) ** 2 * float32
    assert scores_and_probabilities < dense_bytes(job) < 1.8 * scores_and_probabilities


# --- the comparison -------------------------------------------------------------------------------------------------


def test_a_comparison_is_one_record_and_says_first_what_it_costs(folder: Path) -> None:
    said: list[str] = []
    record = compare(Comparison(str(folder), samples=3), said.append)
    assert len(said) == 1 and said[0].startswith("tiny@") and "112 x 144 px, 3 noises, fp32" in said[0]
    assert " s, and about " in said[0] and "GB above the weights" in said[0]
    json.dumps(record, allow_nan=False)
    assert record["unit"] == "seconds" and record["size_hw"] == [112, 144] == record["memory_size_hw"]
    assert record["ratio"] == record["reference"] / record["ours"]
    assert record["floor_share"] == record["floor_seconds"] / record["ours"]
    assert record["ratio_without_unread_squares"] < record["ratio"]
    assert sum(record["rows_of_calls"]) == 3
    assert record["largest_difference"] <= 1e-3
    assert record["environment"]["torch"] and record["multiple"] > 0 and record["multiple_queries"] == 3
    assert (record["memory_reference_mb"] is not None) == LINUX
    text = render(record)
    assert "reference" in text and "ratio" in text and "passes of the network" in text
    assert "not measured" in render({**record, "memory_ratio": None, "memory_ours_mb": None})


def test_several_queries_share_a_pass_and_get_the_maps_that_each_would_get(folder: Path, backbone: Backbone) -> None:
    job = make_job(backbone, (112, 144), 2)
    alone, together = our_maps(job), our_maps(job, 3)
    assert len(together) == 3 * len(alone)
    for part in together.split(len(alone)):
        assert torch.allclose(part, alone, atol=1e-5), "the same text on the same pass"
    record = compare(Comparison(str(folder), samples=2, queries=3))
    assert record["queries"] == 3
    assert record["ratio_a_query"] == 3 * record["reference"] / record["ours_all_queries"]
    assert "3 queries about one photo: " in render(record)
    assert compare(Comparison(str(folder), samples=2))["ratio_a_query"] is None


def test_a_scene_is_answered_by_a_backbone_that_knows_no_paper(backbone: Backbone) -> None:
    settings = dataclasses.replace(preset("fast", "embedded"), refine="none")
    record = scene_multiple(backbone, settings, repeats=1)
    assert record["multiple"] == record["multiple_seconds"] / record["multiple_pass_seconds"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "fp16"}, r"unknown dtype 'fp16': did you mean '.*'\? known: bf16, fp32"),
        ({"samples": 0}, "--samples 0 makes no sense; give 1 or more"),
        ({"repeats": 0}, "--repeats 0 makes no sense; give 1 or more"),
        ({"queries": 0}, "--queries 0 makes no sense; give 1 or more"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Comparison(**options)


def test_random_weights_are_sharpened_so_that_maps_have_peaks(
    backbone: Backbone, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = load_backbone(folder)
    monkeypatch.setattr(models, "load_backbone", lambda *_: fresh)
    monkeypatch.setattr(process, "free_bytes", lambda: None)
    loaded, before = (
        models.measured_backbone("sd15-random", torch.float32).unet.state_dict(),
        backbone.unet.state_dict(),
    )
    changed = {name for name in before if not torch.equal(before[name], loaded[name])}
    assert changed == {name for name in before if ".to_q." in name or ".to_k." in name}
    name = min(changed)
    assert torch.equal(loaded[name], 3 * before[name])


def test_a_size_that_does_not_fit_names_one_that_does(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"--size 100: tiny@\w+ takes multiples of 16 pixels; try 96"):
        compare(Comparison(str(folder), size=100))
    with pytest.raises(UsageError, match=r"--memory-size 100: tiny@\w+ takes multiples of 16 pixels; try 96"):
        compare(Comparison(str(folder), size=64, memory_size=100))


def test_too_little_memory_is_said_before_anything_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "free_bytes", lambda: 1_000)
    with pytest.raises(UsageError, match=r"the reference at 64 x 64 px needs about 0\.\d GB of memory and 0\.0 GB are"):
        compare(Comparison(str(folder), size=64))
    with pytest.raises(UsageError, match=r"Stable Diffusion 1\.x needs about 4\.3 GB .* or measure another model"):
        compare(Comparison("sd15-random"))
    with pytest.raises(UsageError, match=r"Stable Diffusion 1\.x needs about 2\.1 GB "):
        compare(Comparison("sd15-random", dtype="bf16"))


def test_an_unknown_preset_offers_the_nearest(folder: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'fast'"):
        compare(Comparison(str(folder), size=64, samples=1, preset="fats"))


@pytest.mark.skipif(not LINUX, reason="peak memory is known on Linux only")
def test_the_peak_of_one_side_grows_with_the_image(folder: Path) -> None:
    peaks = {
        (side, size): peak_of(side, Comparison(str(folder), samples=2, memory_size=size))
        for side, size in (("ours", 192), ("reference", 192), ("reference", 64))
    }
    assert all(isinstance(peak, int) for peak in peaks.values())
    assert peaks["reference", 192] > peaks["ours", 192] and peaks["reference", 192] > peaks["reference", 64]  # type: ignore[operator]


def test_what_the_user_can_mend_comes_back_from_the_other_process_as_text(tmp_path: Path) -> None:
    assert "no such backbone folder" in str(peak_of("ours", Comparison(str(tmp_path / "none"), memory_size=64)))


@pytest.mark.slow
def test_memory_at_another_size_is_measured_in_processes_of_their_own(folder: Path) -> None:
    record = compare(Comparison(str(folder), size=64, samples=1, memory_size=256))
    assert record["memory_size_hw"] == [256, 256]
    if LINUX:
        assert record["memory_ratio"] == record["memory_reference_mb"] / record["memory_ours_mb"] > 1


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_prints_one_record_of_both_sides_in_half_precision(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["prisbench", "bench", "localizer", "--backbone", folder, "--size", 64, "--samples", 1]
    options = ["--dtype", "bf16", "--repeats", 3, "--format", "json"]
    monkeypatch.setattr(sys, "argv", [*map(str, command), *map(str, options)])
    with pytest.raises(SystemExit) as done:
        cli.main()
    out, err = capfd.readouterr()
    assert done.value.code in (0, None), err
    record = json.loads(out)
    assert {"ratio", "ours", "reference", "unit", "environment"} <= set(record) and "about" in err
    assert record["dtype"] == "bf16" and record["size_hw"] == [64, 64]
    assert record["ours"] == sorted(record["ours_each"])[1] and len(record["reference_each"]) == 3
    assert math.isfinite(record["largest_difference"])
    monkeypatch.setattr(sys, "argv", [*map(str, command), "--dtype", "fp8"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 2 and "fp8" in capfd.readouterr().err
