"""Prompts as token ids: where a subject's learned vectors stand, and which positions belong to which words.

Knows: a CLIP tokenizer and English function words.  Does not know: models, tensors, what a vector holds.

A slot such as ``{subject}`` becomes its learned vectors followed by its noun.  Each word is tokenised on its own, which
gives the ids of the whole text because CLIP's tokenizer never joins anything across white space.  So a position belongs
to its word by construction: nothing is searched for in the finished sequence, and a noun of several pieces, the same
word twice, or names that are prefixes of one another cannot be confused.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from prisbench.errors import UsageError

TOKEN_GROUPS = ("token", "noun", "subject", "phrase")
"""Whose attention makes a map: the learned vectors and the rare word (without any: the noun), the noun, both, or every
content word."""

CONTENT = "content"
"""One more group: every content word of the text and of its template, what a token shares a pixel's attention with."""

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those its his her their my your one some of on in at to by with without from for into onto
    and or but as is are was be it there near next beside behind before above below under over between left right front
    top bottom side photo picture image including s
    """.split()  # noqa: SIM905
)
"""Words that carry no thing and no property; they take no part in the group "phrase"."""


class Words(NamedTuple):
    """What stands in a slot: ``vectors`` learned places, then a rare word that the model was taught to read as the
    subject (DreamBooth), then the noun (one word or several; None where learned places say everything).
    """

    noun: str | None
    vectors: int = 0
    rare: str = ""


@dataclass(frozen=True)
class Prompt:
    """A token sequence as the text encoder reads it: BOS, text, EOS, padding.

    ``learned`` lists (position, slot, number of the vector); ``ids`` hold BOS there, and the caller brings the vectors.
    ``groups`` maps (slot, group) to positions in the sequence; no group is empty.
    """

    text: str
    ids: tuple[int, ...]
    learned: tuple[tuple[int, str, int], ...]
    groups: Mapping[tuple[str, str], tuple[int, ...]]


class _Place(NamedTuple):
    """One token: its id (None: a learned vector), the word it is part of, the slot and role it has."""

    id: int | None
    word: str
    slot: str = ""
    role: str = ""


def compose(tokenizer: Any, text: str, slots: Mapping[str, Words], template: str = "{text}") -> Prompt:
    """The prompt of ``text`` set into ``template``, every slot filled; the template's content words are in the group
    CONTENT alone.

    Raises UsageError when a slot is missing, doubled or unknown, when a noun has no token, and when the prompt is
    longer than the text encoder reads (naming the words that would be lost; nothing is ever truncated).
    """
    head, _, tail = template.partition("{text}")
    found = re.findall(r"{(\w*)}", text)
    for slot in slots:
        if found.count(slot) != 1:
            raise UsageError(f"the text {text!r} must hold {{{slot}}} once, it holds it {found.count(slot)} times")
    if unknown := [slot for slot in found if slot not in slots]:
        raise UsageError(f"unknown slot {{{unknown[0]}}} in {text!r}; known: {', '.join(f'{{{s}}}' for s in slots)}")

    places = list(_words(tokenizer, head, role="template"))
    for i, piece in enumerate(re.split(r"{(\w*)}", text)):
        if i % 2 == 0:
            places += _words(tokenizer, piece, role="content")
            continue
        noun, vectors, rare = slots[piece]
        named = [place._replace(slot=piece, role="noun") for place in _words(tokenizer, noun or "")]
        if not named and (noun is not None or not vectors):
            raise UsageError(f"the noun {noun!r} is no word for the tokenizer; give the class word, such as 'mug'")
        places += [_Place(None, f"<{piece}_{n}>", piece, "token") for n in range(vectors)]
        places += [place._replace(slot=piece, role="token") for place in _words(tokenizer, rare)] + named
    places += _words(tokenizer, tail, role="template")

    length = int(tokenizer.model_max_length)
    if len(places) > length - 2:
        lost = dict.fromkeys(place.word for place in places[length - 2 :])
        raise UsageError(
            f"the prompt is {len(places) + 2} tokens long and this model reads {length}: "
            f"{' '.join(lost)!r} would be lost; shorten the text"
        )
    return _prompt(tokenizer, text, places, tuple(slots), length)


def _prompt(tokenizer: Any, text: str, places: list[_Place], slots: tuple[str, ...], length: int) -> Prompt:
    bos, eos = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
    body = [bos if place.id is None else place.id for place in places]
    padding = [int(tokenizer.pad_token_id)] * (length - 2 - len(body))

    phrase = tuple(i for i, place in enumerate(places, start=1) if place.role not in ("", "template"))
    content = tuple(i for i, place in enumerate(places, start=1) if place.role)
    learned: list[tuple[int, str, int]] = []
    groups: dict[tuple[str, str], tuple[int, ...]] = {}
    for slot in slots:
        token = tuple(i for i, p in enumerate(places, start=1) if (p.slot, p.role) == (slot, "token"))
        noun = tuple(i for i, p in enumerate(places, start=1) if (p.slot, p.role) == (slot, "noun"))
        places_of = (i for i in token if places[i - 1].id is None)
        learned += [(position, slot, n) for n, position in enumerate(places_of)]
        of_slot = {"token": token or noun, "noun": noun or token, "subject": token + noun, "phrase": phrase}
        groups |= {(slot, group): of_slot[group] for group in TOKEN_GROUPS} | {(slot, CONTENT): content}
    return Prompt(text, (bos, *body, eos, *padding), tuple(learned), groups)


def _words(tokenizer: Any, text: str, role: str = "") -> Iterator[_Place]:
    """The tokens of each word; function words and tokens of nothing but punctuation have no role."""
    for word in text.split():
        carries = word.strip(string.punctuation).lower() not in FUNCTION_WORDS
        ids = tokenizer(word, add_special_tokens=False).input_ids
        for id, token in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
            letters = token.removesuffix("</w>").strip(string.punctuation)
            yield _Place(int(id), word, role=role if carries and letters else "")
