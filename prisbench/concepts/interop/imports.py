"""A concept from a file of another program, or from a folder that has such files by their usual
names.

Knows: which kind a file is.  Does not know: how a kind is read.
"""

from __future__ import annotations

from pathlib import Path

from prisbench.concepts.interop.formats import CUSTOM_FILE, EMBEDS, LORA_FILE, LORA_KEY, OTHER_ADAPTERS, PICKLED
from prisbench.concepts.interop.reading import Read, tensors_of
from prisbench.concepts.interop.vectors import vectors_of
from prisbench.concepts.interop.weights import custom_diffusion, low_rank_updates, whole_models
from prisbench.concepts.names import check_rare_word
from prisbench.diffusion.backbone import Backbone
from prisbench.errors import DataError, UsageError
from prisbench.runtime.files import sha256_json
from prisbench.types import Concept


def import_concept(
    path: str | Path, backbone: Backbone, noun: str, subject_id: str = "imported", rare: str = ""
) -> Concept:
    """A concept from a file of another program, or from a folder that has such files by their
    usual names.

    What it is, its keys say.  ``rare`` is the word that DreamBooth or a LoRA was taught ("sks");
    files do not say it.  Of whole models only the parameters that differ from the backbone's are
    kept.  The id is a hash of the files, the backbone, the noun and the rare word.

    Raises DataError, in one line that names file and key, for what is pickled, corrupt, unknown or
    of other shapes, and UsageError for a noun without tokens or a rare word that is none.
    """
    if not backbone.tokenizer(noun, add_special_tokens=False).input_ids:
        raise UsageError(f"the noun {noun!r} is no word for the tokenizer; give the class word, such as 'mug'")
    if rare:
        check_rare_word(backbone.tokenizer, rare, noun)
    path, hashes = Path(path).expanduser(), dict[str, str]()
    read = whole_models(path, backbone, hashes) if _is_models(path) else _file(_chosen(path), backbone, hashes)
    recipe = {**read.recipe, "imported": hashes, **({"rare": rare} if rare else {})}
    id = sha256_json({"backbone": backbone.id, "noun": noun, "recipe": recipe})[:16]
    return Concept(id, subject_id, noun, read.learner, backbone.id, read.tensors, recipe)


def _is_models(path: Path) -> bool:
    return path.is_dir() and any((path / name).exists() for name in ("unet", "transformer", "config.json"))


def _chosen(path: Path) -> Path:
    """The file meant by a path."""
    if not path.is_dir():
        return path
    for name in (CUSTOM_FILE, LORA_FILE, EMBEDS[0]):
        if (path / name).is_file():
            return path / name
    there = sorted(path.glob("*.safetensors"))
    if len(there) == 1:
        return there[0]
    if not there and (pickled := [each for each in sorted(path.iterdir()) if each.suffix in PICKLED]):
        return pickled[0]
    raise DataError(f"{path} holds {len(there)} .safetensors files; name the file that is the concept")


def _file(file: Path, backbone: Backbone, hashes: dict[str, str]) -> Read:
    found, remarks = tensors_of(file, hashes)
    for key in found:
        for mark, kind in OTHER_ADAPTERS.items():
            if f".{mark}" in f".{key}":
                raise DataError(f"{file} is {kind} (key {key!r}), which no concept here can hold; use a plain LoRA")
    if not any(bool(tensor.any()) for tensor in found.values()):
        raise DataError(f"{file} holds nothing but zeros; nothing was learned there")
    if any("custom_diffusion" in key for key in found):
        return custom_diffusion(file, found, backbone, hashes)
    if any(LORA_KEY.fullmatch(key) for key in found):
        return low_rank_updates(file, found, remarks, backbone)
    return Read("textual-inversion", vectors_of(file, found, backbone, hashes), {})
