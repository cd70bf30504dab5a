"""Masks from image-level labels, by a frozen text-to-image model.

After "From Text to Mask" (arXiv 2309.04109; ``scripts/SD_seg.py`` and ``run_scripts.sh`` of its release): one prompt
names all classes of an image, so that they compete for every pixel, and some words of what else may be there, which
only soak up attention; the attention of a class's words, spread by self-attention, is its map.

    make      photos, image labels, a backbone  ->  soft maps and masks    the network's work, then labelling
    remake    soft maps of an earlier run       ->  masks                  another threshold, another CRF

A run is a folder: ``run.json`` (what was asked), ``maps/`` (soft maps), and three folders of palette PNGs: ``before/``
refinement, ``masks/`` after it, and ``labels/``, the same with unsure pixels void, for training.  An image's files
depend on the photo, its labels and the settings alone: not on order, shards, workers or interruptions.

Knows: the words, the published numbers, the loop.  Does not know: how a map becomes labels (``labelling``), scores.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import Encoded, encode_image, fit, to_photo
from prisbench.diffusion.noise import noise
from prisbench.diffusion.prompts import Prompt, Words, compose
from prisbench.diffusion.text import Conditioning, condition
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.images.photos import image_id
from prisbench.localizer import evidence, presets
from prisbench.localizer.attend import Reading, attend, rows_at_once, span_columns
from prisbench.localizer.maps import self_cross
from prisbench.localizer.presets import default_settings
from prisbench.localizer.refine import TABLETOP_ADAPTIVE, CrfParameters, dense_crf
from prisbench.localizer.settings import Evidence, LocalizerSettings
from prisbench.runtime.files import read_json, sha256_file
from prisbench.wsss.label_checks import CheckedMasks, look_at_some
from prisbench.wsss.labelling import (
    CONFIDENCES,
    LabelSettings,
    as_record,
    claim,
    from_record,
    in_order,
    is_labelled,
    label_into,
    worker_processes,
)
from prisbench.wsss.scoring import SoftMap, read_soft_map, write_soft_map
from prisbench.wsss.voc import (
    Item,
    SegmentationSet,
    ids_sha256,
    image_labels,
    read_image_labels,
    read_photo,
)

FORMAT = 1
MAPS = "maps"

MAP_SIDE = 160
"""The longer side of a stored map, in pixels, when the photo's is longer.  A map's finest cells are some eleven pixels
of a VOC photo wide, so a third of its size holds it; 58 kB instead of 560 for an image of 1.5 classes."""


# --- words and numbers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wording:
    """How an image's classes become a text: class phrases, then background words, between commas.

    ``phrases``: what stands for a class, where that is not its name.  ``background``: words that soak up attention;
    ``backgrounds``: those of the classes that have others.  An image gets those of all its classes, each once.
    ``articles``: "a mug" instead of "mug"; the map is that of the phrase without it.  ``last`` joins the last word.
    """

    phrases: Mapping[str, str] = field(default_factory=dict)
    background: tuple[str, ...] = ()
    backgrounds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    articles: bool = False
    last: str = ", and "

    def phrase(self, name: str) -> str:
        """The words for a class."""
        return self.phrases.get(name, name)

    def background_of(self, names: Sequence[str]) -> tuple[str, ...]:
        """The background words of an image of these classes, in order."""
        every = [word for name in names for word in self.backgrounds.get(name, self.background)]
        return tuple(dict.fromkeys(every))


@dataclass(frozen=True)
class PseudoMaskSettings:
    """Every number that decides a pseudo mask.

    Of ``localizer``: ``template`` is the sentence around the text; with ``evidence``, the classes of an image share a
    place by how much better the photo is explained there with their words than without (``against`` and
    ``attention`` are not used: that is the rival, and a class is known to be there); ``tokens`` is not used, because a
    class has nothing but its phrase.  ``confidence``: see ``LabelSettings``.  Raises UsageError for parts of the
    localizer that ask about a single subject.
    """

    localizer: LocalizerSettings
    wording: Wording
    confidence: float = CONFIDENCES["crf"]

    def __post_init__(self) -> None:
        plain = dataclasses.replace(
            self.localizer, caption=None, share=False, contrast_noun=0.0, contrast_others=0.0, presence=None
        )
        if plain != self.localizer:
            raise UsageError(
                "caption, share, contrast_noun, contrast_others and presence ask about one subject; "
                "leave them out of the settings of pseudo masks"
            )
        _ = self.labelling

    @property
    def labelling(self) -> LabelSettings:
        """The part that turns a soft map into labels."""
        each = self.localizer
        return LabelSettings(each.rule, each.tau, each.refine, each.crf, each.adaptive, self.confidence)

    def maps_record(self) -> dict[str, Any]:
        """Plain JSON values of all that decides a soft map."""
        used = ("template", "timesteps", "samples", "cross", "self_block", "hops", "theta", "published_boxes")
        record = {name: getattr(self.localizer, name) for name in (*used, "working_size", "flip", "weights")}
        found = dataclasses.asdict(self.localizer.evidence) if self.localizer.evidence else None
        if found:
            del found["against"], found["attention"]
        return {**record, "evidence": found, "wording": dataclasses.asdict(self.wording), "map_side": MAP_SIDE}


BACKGROUND_WORDS = ("tree", "river", "sea", "lake", "water", "railway", "railroad", "track", "stone", "rocks")

VOC_WORDING = Wording(
    phrases={
        "bird": "bird avian",
        "chair": "chair seat",
        "diningtable": "dining table",
        "person": "person with clothes",
        "pottedplant": "potted plant",
        "tvmonitor": "tv monitor screen",
    },
    background=BACKGROUND_WORDS,
    backgrounds={
        "boat": ("river", "sea", "lake", "water", "mountain"),
        "cow": ("grass", "stone", "rocks"),
        "train": ("railway", "railroad", "track"),
        "tvmonitor": ("keyboard", "wall"),
    },
)
COCO_WORDING = Wording(
    phrases={
        "person": "person with clothes",
        "motorcycle": "motorbike",
        "airplane": "aeroplane",
        "bird": "bird avian",
        "backpack": "backpack, bag",
        "umbrella": "umbrella, parasol",
        "handbag": "handbag, purse",
        "tie": "necktie",
        "baseball glove": "glove",
        "spoon": "dessert spoon",
        "chair": "chair seat",
        "couch": "sofa",
        "tv": "tv monitor screen",
        "remote": "remote control",
        "hair drier": "hairdrier, blowdrier",
    },
    background=BACKGROUND_WORDS,
)
"""Both: Text2Mask, ``scripts/SD_seg.py``.  Its "sknowboard" is written as the word it means."""

EVIDENCE = Evidence((300, 500, 700), power=1.0)
"""What ``--evidence`` adds.  Timesteps as the localizer's preset "accurate"; on 40 Tabletop scenes, with CRF, mIoU rose
from 0.67 to 0.81.  Not measured on photographs."""

_PUBLISHED = dataclasses.replace(presets.PUBLISHED, template="a photo including {text}.", refine="crf")
_TABLETOP = dataclasses.replace(
    _PUBLISHED,
    template="a photo of {text}",
    timesteps=(100, 300),
    samples=2,
    cross={"up.1.0": 1.0, "up.1.1": 2.0, "up.2.0": 1.0, "up.2.1": 1.0},
    self_block=presets.ROLES["embedded"].affinity,
    theta=None,
    published_boxes=False,
    rule="threshold",
    tau=0.2,
    adaptive=TABLETOP_ADAPTIVE,
    working_size="native",
    evidence=EVIDENCE,
)

PRESETS = {
    "voc12": PseudoMaskSettings(_PUBLISHED, VOC_WORDING),
    "coco14": PseudoMaskSettings(dataclasses.replace(_PUBLISHED, samples=1, theta=0.5, tau=0.35), COCO_WORDING),
    "folder": PseudoMaskSettings(_PUBLISHED, Wording(background=BACKGROUND_WORDS)),
    "tabletop": PseudoMaskSettings(_TABLETOP, Wording(articles=True, last=" and ")),
}
"""The first two: ``run_scripts.sh`` (thresholds, samples) and ``scripts/SD_seg.py`` (boxes, CRF) of the release.
"folder" takes VOC's numbers and the folder's own class names.  "tabletop" is for the embedded backbone, whose captions
read "a photo of a mug, a bowl and a plant"; blocks and timesteps as its localizer's, the rest chosen on 40 scenes of
its own (docs/wsss.md)."""


def settings_for(backbone: Backbone, dataset: SegmentationSet, preset: str | None = None) -> PseudoMaskSettings:
    """A preset with the blocks of the backbone's family; by default the data set's, or "tabletop" on the embedded one.

    Raises UnknownNameError, and BackboneError for a layout of blocks nobody has given roles.
    """
    name = preset or ("tabletop" if backbone.family == "embedded" else dataset.layout.name)
    chosen = preset_of(name)
    own = default_settings(backbone, "paper")
    if name == "tabletop":
        if backbone.family != "embedded":
            raise UsageError(f"the preset tabletop is for the embedded backbone, not for {backbone.id}")
        return chosen
    localizer = dataclasses.replace(
        chosen.localizer, cross=own.cross, self_block=own.self_block, working_size=own.working_size
    )
    return dataclasses.replace(chosen, localizer=localizer)


def preset_of(name: str) -> PseudoMaskSettings:
    """The settings of that name.  Raises UnknownNameError."""
    if name not in PRESETS:
        raise UnknownNameError("preset of pseudo masks", name, PRESETS)
    return PRESETS[name]


def changed(
    settings: PseudoMaskSettings, confidence: float | None = None, evidence: bool | None = None, **numbers: Any
) -> PseudoMaskSettings:
    """The settings with some numbers of the localizer replaced (None leaves one), and with or without evidence."""
    given = {name: value for name, value in numbers.items() if value is not None}
    if evidence is not None and evidence != bool(settings.localizer.evidence):
        given["evidence"] = EVIDENCE if evidence else Evidence()
    localizer = dataclasses.replace(settings.localizer, **given)
    sure = settings.confidence if confidence is None else confidence
    return dataclasses.replace(settings, localizer=localizer, confidence=sure)


# --- prompts --------------------------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """A prompt about some of an image's classes: ``prompt.groups[slots[i], "noun"]`` are the positions of ``names[i]``.

    ``background``: the background words it holds; ``wanted`` what it should hold.
    """

    prompt: Prompt
    names: tuple[str, ...]
    slots: tuple[str, ...]
    background: tuple[str, ...]
    wanted: int


def prompts(tokenizer: Any, names: Sequence[str], settings: PseudoMaskSettings) -> list[Asked]:
    """The prompt of all classes of an image; several where one would be longer than the text encoder reads.

    Background words are left out from the end until it fits, which is what the published truncation takes away first;
    only then the classes are halved, where the release would lose the last ones.  Raises UsageError for a single phrase
    that is too long or has no token.
    """
    wanted = settings.wording.background_of(names)
    for kept in range(len(wanted), -1, -1):
        try:
            return [_asked(tokenizer, names, wanted[:kept], len(wanted), settings)]
        except UsageError:
            if kept == 0 and len(names) == 1:
                raise
    half = (len(names) + 1) // 2
    return prompts(tokenizer, names[:half], settings) + prompts(tokenizer, names[half:], settings)


def _asked(
    tokenizer: Any, names: Sequence[str], background: tuple[str, ...], wanted: int, settings: PseudoMaskSettings
) -> Asked:
    slots = tuple(f"class_{i}" for i in range(len(names)))
    prompt = _prompt(tokenizer, dict(zip(slots, names, strict=True)), background, settings)
    return Asked(prompt, tuple(names), slots, background, wanted)


def _prompt(
    tokenizer: Any, names: Mapping[str, str], background: tuple[str, ...], settings: PseudoMaskSettings
) -> Prompt:
    """The prompt of the classes in these slots; of none at all, the empty one."""
    wording = settings.wording
    words = {slot: Words(wording.phrase(name)) for slot, name in names.items()}
    things = [(_article(word.noun) if wording.articles else "") + f"{{{slot}}}" for slot, word in words.items()]
    *first, last = [*things, *background] or [""]
    text = f"{', '.join(first)}{wording.last}{last}" if first else last
    return compose(tokenizer, text, words, settings.localizer.template if text else "{text}")


def _article(phrase: str) -> str:
    return "an " if phrase[:1].lower() in "aeiou" else "a "


# --- one image ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def soft_map(
    backbone: Backbone,
    photo: UInt8[np.ndarray, "h w 3"],
    labels: Sequence[int],
    classes: Sequence[str],
    settings: PseudoMaskSettings,
) -> SoftMap:
    """The scores, 0..1, of the classes that an image has; ``classes[label]`` is a name, 0 the background.

    The scores are in the photo's frame, fp16, at its size or with a longer side of MAP_SIDE pixels.  Raises DataError
    for a photo too small or too narrow, UsageError for a phrase that no prompt holds.
    """
    h, w = photo.shape[:2]
    scale = min(1.0, MAP_SIDE / max(h, w))
    frame_hw = max(1, round(h * scale)), max(1, round(w * scale))
    if not labels:
        return SoftMap((), np.zeros((0, *frame_hw), np.float16))
    names = [classes[label] for label in labels]
    score = _scores(backbone, photo, names, frame_hw, settings)
    if settings.localizer.flip:
        other = _scores(backbone, np.ascontiguousarray(photo[:, ::-1]), names, frame_hw, settings)
        score = (score + other.flip(-1)) / 2
    return SoftMap(tuple(labels), score.cpu().numpy().astype(np.float16))


def _scores(
    backbone: Backbone,
    photo: UInt8[np.ndarray, "h w 3"],
    names: Sequence[str],
    frame_hw: tuple[int, int],
    settings: PseudoMaskSettings,
) -> Float[Tensor, "c fh fw"]:
    localizer = settings.localizer
    encoded = encode_image(backbone, photo, localizer.working_size)
    frame = dataclasses.replace(encoded.geometry, photo_hw=frame_hw)
    shape = tuple(encoded.latents.shape[1:])
    rows = [(t, k) for t in localizer.timesteps for k in range(localizer.samples)]
    name = image_id(photo)
    eps = torch.stack([noise(name, k, shape) for _, k in rows])
    times = torch.tensor([t for t, _ in rows])
    of_prompts = []
    for asked in prompts(backbone.tokenizer, names, settings):
        text = condition(backbone, [asked.prompt], None, encoded.geometry)
        spans = [asked.prompt.groups[slot, "noun"] for slot in asked.slots]
        reading = Reading(
            backbone.unet,
            backbone.alphas_cumprod,
            encoded.latents,
            eps,
            times,
            text,
            span_columns(spans, int(text.states.shape[1])),
            set(localizer.cross),
            {localizer.self_block} if localizer.hops else set(),
            per_head=localizer.weights == "consensus",
        )
        maps = self_cross(attend(reading), localizer, encoded.geometry)
        score = to_photo(maps.score, maps.grid_hw, frame).clamp(0, 1)
        if localizer.evidence and len(asked.names) > 1:
            shares, grid_hw = _shares(backbone, encoded, name, asked, text, settings)
            score = score * to_photo(shares, grid_hw, frame).clamp(0, 1).to(score) ** localizer.evidence.power
            top = score.amax((-2, -1), keepdim=True)
            score = score / torch.where(top > 0, top, torch.ones_like(top))
        of_prompts.append(score)
    return torch.cat(of_prompts).float()


def _shares(
    backbone: Backbone,
    encoded: Encoded,
    name: str,
    asked: Asked,
    text: Conditioning,
    settings: PseudoMaskSettings,
) -> tuple[Float[Tensor, "c vh vw"], tuple[int, int]]:
    """How much each class has of the strongest class's evidence, 0..1, place by place, and the whole grid's size.

    The evidence for a class is the prompt against the same without its words (``localizer.evidence``).  Which classes
    are in the image is known, so it only decides whose a place is: where one class leads, the others step back; where
    no class has any, nobody does; how far a thing reaches is left to attention.
    """
    most = min(8, rows_at_once(backbone.unet, (int(encoded.latents.shape[2]), int(encoded.latents.shape[3]))))
    chosen = settings.localizer.evidence
    own, found = evidence.errors(backbone, encoded, name, text, chosen, most), []
    for left_out in asked.slots:
        others = {slot: each for slot, each in zip(asked.slots, asked.names, strict=True) if slot != left_out}
        rival = _prompt(backbone.tokenizer, others, asked.background, settings)
        heard = condition(backbone, [rival], None, encoded.geometry)
        errors = evidence.errors(backbone, encoded, name, heard, chosen, most)
        found.append(evidence.compare(own, errors, encoded.geometry, chosen))
    strength = np.stack([evidence.blurred(each.cells, chosen) for each in found]).clip(min=0)
    strongest = strength.max(axis=0, keepdims=True)
    shares = np.divide(strength, strongest, out=np.ones_like(strength), where=strongest > 0)
    return torch.from_numpy(shares).to(backbone.device), found[0].grid_hw


# --- a set ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Job:
    """What is to be labelled, and where it goes.

    ``image_labels``: a file of labels (``read_image_labels``); None takes them from the true masks, an oracle: a
    perfect classifier, as the published protocol does.  ``shard`` (i, n): the i-th of n parts, from 1; all parts share
    ``out``.  ``workers``: processes that refine; 0 does it in between.
    """

    dataset: SegmentationSet
    split: str
    out: Path
    image_labels: Path | None = None
    shard: tuple[int, int] = (1, 1)
    workers: int = 2

    def __post_init__(self) -> None:
        part, of = self.shard
        if not 1 <= part <= of:
            raise UsageError(f"--shard {part}/{of} makes no sense; of 4 parts there are 1/4, 2/4, 3/4 and 4/4")
        if self.workers < 0:
            raise UsageError(f"--workers {self.workers} makes no sense; 0 refines in between")

    def items(self) -> list[Item]:
        """The images of this part.  Raises as ``SegmentationSet.items``."""
        part, of = self.shard
        return self.dataset.items(self.split)[part - 1 :: of]


class Made(NamedTuple):
    """How many images there are, how many were made now, how long it took, and how long the network worked.

    ``shortened``: images whose prompt lost background words; ``divided``: those that took several prompts.
    """

    images: int
    written: int
    seconds: float
    network_seconds: float
    shortened: int
    divided: int


Progress = Callable[[int, int], None]


def make(
    backbone: Backbone,
    job: Job,
    settings: PseudoMaskSettings,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Made:
    """Soft maps and masks of all images of a job, going on where the same command stopped.

    ``progress`` hears of (done, to do); ``say`` of the cost, before it starts and when the second image is through.
    Raises DataError for a list, photo, mask or label file that is missing or damaged, an image without labels in the
    file, masks that cannot be right (``label_checks``), no class in any image, and a folder that holds another run;
    MissingExtraError before anything is computed.
    """
    items = job.items()
    labels = _labels_of(job)
    _check_crf(settings.labelling)
    if job.image_labels is None and not all(is_labelled(job.out, item.id) for item in items):
        every = [(item.mask, item) for item in job.dataset.items(job.split)]
        look_at_some(CheckedMasks(job.dataset, f"true masks of {job.split}"), every)
    claim(job.out, {"maps": maps_identity(backbone, job, settings), "labels": as_record(settings.labelling)})
    todo = [item for item in items if not is_labelled(job.out, item.id)]
    shortened = divided = passes = 0
    spent = 0.0

    def read(item: Item) -> tuple[Item, UInt8[np.ndarray, "h w 3"], tuple[int, ...]]:
        photo = read_photo(item)
        h, w = photo.shape[:2]
        return item, photo, labels(item, (h, w))

    def soft_of(item: Item, photo: UInt8[np.ndarray, "h w 3"], own: tuple[int, ...]) -> SoftMap:
        nonlocal shortened, divided, passes, spent
        path = job.out / MAPS / f"{item.id}.safetensors"
        if path.is_file():
            return read_soft_map(path, len(job.dataset.classes))
        began = time.perf_counter()
        try:
            soft = soft_map(backbone, photo, own, job.dataset.classes, settings)
        except (DataError, UsageError) as error:
            raise DataError(f"{item.photo}: {error}") from None
        write_soft_map(path, soft)
        spent += (seconds := time.perf_counter() - began)
        if own:
            found = prompts(backbone.tokenizer, [job.dataset.classes[label] for label in own], settings)
            divided += len(found) > 1
            shortened += any(len(each.background) < each.wanted for each in found)
        passes += 1
        if passes == min(2, len(todo)):
            left = seconds * (len(todo) - passes)
            say(f"{seconds:.2f} s an image: about {_length(left)}; interrupt it at will, the same command goes on")
        return soft

    if todo:
        h, w = read_photo(todo[0]).shape[:2]
        say(cost(backbone, settings, (h, w), job, len(todo)))
    seconds = _label_all(job, todo, len(items), read, soft_of, settings.labelling, progress)
    return Made(len(items), len(todo), seconds, spent, shortened, divided)


def remake(maps: Path, job: Job, settings: LabelSettings, progress: Progress | None = None) -> Made:
    """Masks of a job from the soft maps in a folder (of an earlier run, or ``maps/`` of one), without the network.

    The same files that ``make`` would write with these settings.  Raises DataError when the folder or a map is missing
    or damaged, and for a folder of results that holds another run.
    """
    folder = _maps_folder(maps)
    items = job.items()
    found = _maps_in(folder, items, job.split)
    _check_crf(settings)
    record = _run_of(folder)
    origin = record["maps"] if record else {"folder": folder.name}
    claim(job.out, {"maps": origin, "labels": as_record(settings)})
    todo = [item for item in items if not is_labelled(job.out, item.id)]

    def read(item: Item) -> tuple[Item, UInt8[np.ndarray, "h w 3"], tuple[int, ...]]:
        return item, read_photo(item), ()

    def soft_of(item: Item, photo: UInt8[np.ndarray, "h w 3"], own: tuple[int, ...]) -> SoftMap:
        return read_soft_map(found[item.id], len(job.dataset.classes))

    seconds = _label_all(job, todo, len(items), read, soft_of, settings, progress)
    return Made(len(items), len(todo), seconds, 0.0, 0, 0)


def earlier_labelling(maps: Path) -> LabelSettings | None:
    """How the run that made these maps turned them into labels; None where the maps have no run.json."""
    record = _run_of(_maps_folder(maps))
    return from_record(record.get("labels"), f"{maps}: run.json") if record else None


def _maps_folder(maps: Path) -> Path:
    return maps / MAPS if (maps / MAPS).is_dir() else maps


def _run_of(folder: Path) -> dict[str, Any]:
    """The record of the run that a folder of maps is part of; empty without one."""
    path = folder.parent / "run.json"
    if folder.name != MAPS or not path.is_file():
        return {}
    record = read_json(path)
    if not isinstance(record, dict) or "maps" not in record:
        raise DataError(f"{path} is no record of pseudo masks; name the folder of the soft maps of another run")
    return record


def _label_all(
    job: Job,
    todo: Sequence[Item],
    total: int,
    read: Callable[[Item], tuple[Item, np.ndarray, tuple[int, ...]]],
    soft_of: Callable[[Item, np.ndarray, tuple[int, ...]], SoftMap],
    settings: LabelSettings,
    progress: Progress | None,
) -> float:
    """Read ahead, ask for maps one after the other, label them in worker processes; returns the seconds it took."""
    began, done = time.perf_counter(), total - len(todo)
    workers = min(job.workers, len(todo)) if settings.refine != "none" else 0
    with ThreadPoolExecutor(2) as readers, worker_processes(workers) as pool:

        def calls() -> Iterator[tuple[Any, ...]]:
            for item, photo, own in in_order(readers, read, ((item,) for item in todo), ahead=4):
                yield job.out, item.id, photo, soft_of(item, photo, own), settings

        for _ in in_order(pool, label_into, calls(), ahead=2 * workers):
            done += 1
            if progress is not None:
                progress(done, total)
    return time.perf_counter() - began


def _labels_of(job: Job) -> Callable[[Item, tuple[int, int]], tuple[int, ...]]:
    """What gives an image its labels; a file is read once and must know every image of the split."""
    if job.image_labels is None:
        masks = CheckedMasks(job.dataset, f"true masks of {job.split}")
        return lambda item, size_hw: image_labels(masks.read(item.mask, item, size_hw))
    known = read_image_labels(job.image_labels, job.dataset.classes)
    listed = job.dataset.items(job.split)
    missing = [item for item in listed if item.id not in known]
    if missing:
        raise DataError(
            f"{job.image_labels} has no labels for {len(missing)} images of {job.split}; the first is "
            f"{missing[0].id} ({missing[0].where})"
        )
    if not any(known[item.id] for item in listed):
        raise DataError(f"{job.image_labels} gives none of the {len(listed)} images of {job.split} a class")
    return lambda item, size_hw: known[item.id]


def _maps_in(folder: Path, items: Sequence[Item], split: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"no soft maps in {folder}: there is no such folder")
    places = {item.id: [folder / f"{item.id}{suffix}" for suffix in (".safetensors", ".npz")] for item in items}
    found = {name: next((path for path in each if path.is_file()), None) for name, each in places.items()}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise DataError(
            f"{folder} lacks the soft maps of {len(missing)} of the {len(items)} images of {split}; the first is "
            f"{missing[0]}.safetensors"
        )
    return {name: path for name, path in found.items() if path is not None}


def _check_crf(settings: LabelSettings) -> None:
    """Raises MissingExtraError for a CRF that is not installed."""
    if settings.refine == "crf":
        nothing = CrfParameters(1, 1.0, 1.0, 1.0, 1.0, 1.0)
        dense_crf(np.zeros((2, 3, 3), np.uint8), np.full((2, 2, 3), 0.5, np.float32), nothing)


def maps_identity(backbone: Backbone, job: Job, settings: PseudoMaskSettings) -> dict[str, Any]:
    """All that decides the soft maps of a job, as JSON has it; shards of one job share it."""
    source = {"from": "true masks (an oracle)"}
    if job.image_labels is not None:
        source = {"from": "file", "sha256": sha256_file(job.image_labels)}
    items = job.dataset.items(job.split)
    return {
        "format": FORMAT,
        "backbone": backbone.id,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "dataset": {
            "name": job.dataset.name,
            "split": job.split,
            "ids": ids_sha256([item.id for item in items]),
            "classes": list(job.dataset.classes),
        },
        "image_labels": source,
        "settings": settings.maps_record(),
    }


def cost(backbone: Backbone, settings: PseudoMaskSettings, photo_hw: tuple[int, int], job: Job, images: int) -> str:
    """What a job takes of the network, in words."""
    localizer = settings.localizer
    geometry = fit(photo_hw, localizer.working_size, backbone.native_area_px, backbone.stride)
    h, w = (n // backbone.vae_factor for n in geometry.padded_hw)
    noises = len(localizer.timesteps) * localizer.samples * (1 + localizer.flip)
    at_once = min(noises, rows_at_once(backbone.unet, (h, w)))
    compared = len(localizer.evidence.timesteps) * localizer.evidence.samples * (1 + localizer.flip)
    more = f", and {compared} times 1 + its number of classes for the evidence" if compared else ""
    where = "labels from the true masks (an oracle)" if job.image_labels is None else f"labels from {job.image_labels}"
    return (
        f"pseudo masks of {images} images by {backbone.id} on {backbone.device}, {where}: {noises} passes of the "
        f"network an image in batches of {at_once}, latents {h} x {w}{more}; refinement: {localizer.refine}"
        + (f" in {job.workers} processes" if job.workers and localizer.refine != "none" else "")
    )


def _length(seconds: float) -> str:
    if seconds > 5400:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
