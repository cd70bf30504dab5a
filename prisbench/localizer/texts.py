"""What the texts of a query become: prompts, text embeddings, and the columns of attention that are kept of them.

Knows: how a subject's words enter a text, which further texts are scored beside it, the cache of the encoders.
Does not know: the U-Net, noise, maps.
"""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from prisbench.concepts.controls import noun_only
from prisbench.concepts.store import check_backbone
from prisbench.diffusion.attention import Recording
from prisbench.diffusion.backbone import VECTORS, Backbone
from prisbench.diffusion.encodings import latents_of, made_by, once
from prisbench.diffusion.images import Encoded, Geometry
from prisbench.diffusion.prompts import CONTENT, TOKEN_GROUPS, Prompt, Words, compose
from prisbench.diffusion.text import Conditioning, condition, learned_vectors
from prisbench.localizer.attend import span_columns
from prisbench.localizer.settings import LocalizerSettings
from prisbench.phrases import Condition, parse
from prisbench.runtime.files import sha256_bytes
from prisbench.types import SLOT, Concept, Query, Subject

SLOT_NAME = SLOT.strip("{}")

COLUMNS = (*TOKEN_GROUPS, CONTENT, "bare", "others")
"""What is kept of a query's cross-attention: the mean over each group's tokens; the sum over all content words; the
noun in the same text without the learned vectors; the mean over other subjects' tokens in it.
"""

OWN_WORDS = COLUMNS.index("token")
"""The column of what was learned of this one thing: its vectors or rare word."""


@dataclass(frozen=True, eq=False)
class Reader:
    """A backbone that reads photos and texts under some settings.

    ``encodings`` is a folder that keeps what the encoders made, by content; None keeps nothing.  ``weights`` names the
    weights of the text encoders, where they are not the backbone's own.
    """

    backbone: Backbone
    settings: LocalizerSettings
    encodings: Path | None = None
    weights: str | None = None

    def image(self, photo: UInt8[np.ndarray, "h w 3"]) -> Encoded:
        return latents_of(self.encodings, self.backbone, photo, self.settings.working_size)

    def text(self, text: str, concept: Concept, geometry: Geometry, learned: bool = True) -> Conditioning:
        """What the U-Net is conditioned on when the text is about a subject; see ``prompt``."""
        vectors = {SLOT_NAME: self.vectors(concept)} if learned else {}
        return self.condition(self.prompt(text, concept, learned), vectors, geometry)

    def prompt(self, text: str, concept: Concept, learned: bool = True) -> Prompt:
        """The text about a subject, with its learned vectors and rare word or with its noun alone."""
        own = Words(concept.noun, self.count(concept), rare_word(concept))
        slots = {SLOT_NAME: own if learned else Words(concept.noun)}
        return compose(self.backbone.tokenizer, text, slots, self.settings.template)

    def condition(
        self, prompt: Prompt, vectors: Mapping[str, Mapping[str, Tensor]], geometry: Geometry
    ) -> Conditioning:
        """``backbone.condition`` of one prompt, once."""
        hashes = {
            slot: {name: sha256_bytes(tensor.cpu().numpy().tobytes()) for name, tensor in of.items()}
            for slot, of in vectors.items()
        }
        parts = {"ids": prompt.ids, "learned": prompt.learned, "vectors": hashes}
        if self.backbone.sized:  # SDXL is conditioned on sizes, too
            parts["geometry"] = dataclasses.asdict(geometry)
        if self.weights is not None:
            parts["weights"] = self.weights

        def compute() -> dict[str, Tensor]:
            made = condition(self.backbone, [prompt], vectors, geometry)
            return {"states": made.states} | {f"added.{k}": v for k, v in (made.added or {}).items()}

        made = once(self.encodings, made_by(self.backbone) | parts, self.backbone.device, compute)
        added = {k.removeprefix("added."): v for k, v in made.items() if k.startswith("added.")}
        return Conditioning(made["states"], added or None)

    def vectors(self, concept: Concept) -> dict[str, Tensor]:
        """Raises BackboneError for a concept of another backbone."""
        check_backbone(concept, self.backbone.id)
        return learned_vectors(self.backbone, concept.tensors, concept.id)

    def count(self, concept: Concept) -> int:
        """How many places its learned vectors take in a text."""
        return len(self.vectors(concept)[VECTORS[0]])


@dataclass(frozen=True)
class Wording:
    """Whose words stand in a query's text: the subject's, and those whose attention is contrasted with theirs.

    ``bare``: the noun alone.  ``others``: other subjects' words.
    """

    concept: Concept
    bare: bool
    others: tuple[Concept, ...]

    @property
    def further(self) -> list[tuple[Concept, bool]]:
        """Whose words are scored beside the subject's own, and whether with what was learned."""
        return [(self.concept, False)] * self.bare + [(other, True) for other in self.others]


@dataclass(frozen=True, eq=False)
class QueryTexts:
    """A query's prompt, and further ones whose keys are scored against the same queries of the image: first its own,
    then the bare noun's, then those of other subjects.  ``beside`` is what stands beside them (``Conditioning.added``).
    """

    text: Conditioning
    states: Float[Tensor, "p t d"]
    columns: Float[Tensor, "p t c"]
    bare: bool
    beside: Mapping[str, Tensor] | None = None

    def fold(self, seen: Recording, at: int = 0) -> Recording:
        """The columns of these prompts, which begin at ``at``, as COLUMNS."""
        each = self.columns.shape[2]

        def folded(cross: Tensor) -> Tensor:
            own = cross[:, :, at : at + each]
            further = cross[:, :, at + each : at + each * len(self.columns)].unflatten(2, (-1, each))
            nothing = torch.zeros_like(own[:, :, :1])
            bare = further[:, :, 0, TOKEN_GROUPS.index("noun")][:, :, None] if self.bare else nothing
            rest = further[:, :, int(self.bare) :, TOKEN_GROUPS.index("token")]
            others = rest.mean(2, keepdim=True) if rest.shape[2] else nothing
            return torch.cat([own, bare, others], 2)

        return Recording({name: folded(cross) for name, cross in seen.cross.items()}, seen.self_attention)


def read(reader: Reader, text: str, wording: Wording, geometry: Geometry) -> QueryTexts:
    """A query's text, read with all the words that its wording holds."""
    concept, further = wording.concept, wording.further
    own = reader.text(text, concept, geometry)
    prompts = [reader.prompt(text, concept)] + [reader.prompt(text, who, learned) for who, learned in further]
    texts = [own] + [reader.text(text, who, geometry, learned) for who, learned in further]
    length = int(own.states.shape[1])
    return QueryTexts(
        own,
        torch.cat([each.states for each in texts]),
        torch.stack([_columns(prompt, length) for prompt in prompts]),
        wording.bare,
        together([each.added for each in texts]),
    )


def together(beside: Sequence[Mapping[str, Tensor] | None]) -> dict[str, Tensor] | None:
    """What stands beside several texts, one after the other; None where nothing does."""
    first = beside[0]
    if first is None:
        return None
    return {name: torch.cat([each[name] for each in beside if each is not None]) for name in first}


def _columns(prompt: Prompt, length: int) -> Float[Tensor, "length c"]:
    """One column a token group, its mean, and one for all content words, their sum."""
    groups = span_columns([prompt.groups[SLOT_NAME, group] for group in TOKEN_GROUPS], length)
    content = torch.zeros(length, 1)
    content[list(prompt.groups[SLOT_NAME, CONTENT])] = 1
    return torch.cat([groups, content], 1)


def told(query: Query, settings: LocalizerSettings) -> tuple[Query, tuple[Condition, ...]]:
    """The query without what it says of place, and that, where the settings read it; else the query as it is.

    So is a text with other slots than the subject's, which ``compose`` refuses.
    """
    if not settings.places.reads or re.findall(r"{(\w*)}", query.text) != [SLOT_NAME]:
        return query, ()
    reading = parse(query.text)
    rest = reading.rest if reading.rest.count(SLOT) == 1 else query.text
    return dataclasses.replace(query, text=rest), reading.conditions


def landmark(phrase: str) -> tuple[str, Wording]:
    """The phrase of a landmark as a text with a slot for its noun, and the noun as what stands there.

    The noun is the last word before "with", "of" or a comma.
    """
    words = phrase.split()
    ends = next((n for n, word in enumerate(words) if n and word in ("with", "of", "in")), len(words))
    noun = words[ends - 1].strip(string.punctuation) or words[ends - 1]
    text = " ".join([*words[: ends - 1], SLOT, *words[ends:]])
    return text, Wording(noun_only(Subject(noun, noun, ())), False, ())


def rare_word(concept: Concept) -> str:
    """The word that DreamBooth taught the network to read as the subject; empty for other learners."""
    return str(concept.recipe.get("rare", ""))


def mirror(text: str) -> str:
    """What the text says of the mirror image: left and right change places."""
    sides = {"left": "right", "right": "left"}
    return re.sub(r"\b(left|right)\b", lambda found: sides[found[1]], text)
