"""Prompts as token ids: where a subject's learned vectors stand, and which positions belong to which words.

Knows: tokenizers and English function words.  Does not know: models, tensors, what a vector holds.

A slot such as ``{subject}`` becomes its learned vectors followed by its noun.  Each word is tokenised on its own, which
gives the ids of the whole text because the tokenizers of CLIP, T5 and Qwen never join anything across white space.  So
a position belongs to its word by construction: nothing is searched for in the finished sequence, and a noun of several
pieces, the same word twice, or names that are prefixes of one another cannot be confused.
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
"""One more group: every content word of the text and of its template, what a token shares a pixel's attention with.
Of several readers: every word there, so what is left out is padding, and what stands before and after a text."""

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those its his her their my your one some of on in at to by with without from for into onto
    and or but as is are was be it there near next beside behind before above below under over between left right front
    top bottom side photo picture image including s
    """.split()  # noqa: SIM905
)
"""Words that carry no thing and no property; they take no part in the group "phrase"."""


SPACES = "\u2581\u0120"
"""How the tokens of T5 and of Qwen write the space before a word."""


class Words(NamedTuple):
    """What stands in a slot: ``vectors`` learned places, then a rare word that the model was taught to read as the
    subject (DreamBooth), then the noun (one word or several; None where learned places say everything).
    """

    noun: str | None
    vectors: int = 0
    rare: str = ""


@dataclass(frozen=True)
class Prompt:
    """A token sequence as the text encoder reads it: BOS, text, EOS, padding; of several readers one after the other.

    ``learned`` lists (position, slot, number of the vector); ``ids`` hold BOS there, and the caller brings the vectors.
    ``groups`` maps (slot, group) to positions in the sequence; no group is empty.  ``used``: how many ids of each
    reader are no padding.
    """

    text: str
    ids: tuple[int, ...]
    learned: tuple[tuple[int, str, int], ...]
    groups: Mapping[tuple[str, str], tuple[int, ...]]
    used: tuple[int, ...] = ()


class Section(NamedTuple):
    """One reader of a text: a tokenizer, and the text encoders that read its ids.

    ``encoders`` are those of ``backbone.VECTORS`` that have a vector for each learned place.  ``start`` and ``end``
    stand before and after the text, in ``length`` places.  ``paddings`` is what each of the encoders has for padding;
    the ids have the first one's.  ``rows``: its positions are rows of what the model attends
    to; the rest reads along for a vector of the whole text.  ``spaced``: a word's token holds the space before it.
    ``lower``: in small letters.  ``masked``: padding takes no part in what reads it.  ``name``: what messages call it.
    """

    tokenizer: Any
    encoders: tuple[str, ...]
    start: tuple[int, ...]
    end: tuple[int, ...]
    paddings: tuple[int, ...]
    length: int
    rows: bool = True
    spaced: bool = False
    lower: bool = False
    masked: bool = False
    name: str = ""

    def ids(self, word: str, joined: bool = False) -> list[int]:
        """The tokens of a word; ``joined``: no space stands before it."""
        word = word.lower() if self.lower else word
        said = f" {word}" if self.spaced and not joined and word else word
        found = list(self.tokenizer(said, add_special_tokens=False).input_ids)
        begins = self.tokenizer.convert_ids_to_tokens(found[:1])
        if joined and begins and begins[0].startswith(SPACES[0]):  # T5 puts a space before whatever it is asked
            rest = begins[0][1:]
            found[:1] = [self.tokenizer.convert_tokens_to_ids(rest)] if rest in self.tokenizer.get_vocab() else []
        return found


@dataclass(frozen=True, eq=False)
class Sections:
    """The readers of a model with several, in the order of its rows; their ids stand one after the other in a Prompt.

    It answers for its first reader where one tokenizer is asked about a word.  ``blank``: rows of zeros behind those
    of the readers, of one that the pipeline was saved without.
    """

    each: tuple[Section, ...]
    blank: int = 0

    def __call__(self, text: str, add_special_tokens: bool = False) -> _Ids:
        del add_special_tokens
        return _Ids([id for word in text.split() for id in self.each[0].ids(word)])

    def __len__(self) -> int:
        return len(self.each[0].tokenizer)

    def __getattr__(self, name: str) -> Any:
        if name == "each":  # while a copy is being made
            raise AttributeError(name)
        return getattr(self.each[0].tokenizer, name)

    @property
    def model_max_length(self) -> int:
        """What the shortest reader takes."""
        return min(section.length for section in self.each)

    def of(self, encoder: str) -> Section:
        """The reader whose ids a text encoder gets, by its name in ``backbone.VECTORS``."""
        return next(section for section in self.each if encoder in section.encoders)


class _Ids(NamedTuple):
    input_ids: list[int]


class _Place(NamedTuple):
    """One token: its id (None: a learned vector), the word it is part of, the slot and role it has."""

    id: int | None
    word: str
    slot: str = ""
    role: str = ""


def compose(tokenizer: Any, text: str, slots: Mapping[str, Words], template: str = "{text}") -> Prompt:
    """The prompt of ``text`` set into ``template``, every slot filled; the template's content words are in the group
    CONTENT alone.  ``tokenizer``: CLIP's, or Sections.

    Raises UsageError when a slot is missing, doubled or unknown, when a noun has no token, and when the prompt is
    longer than a text encoder reads (naming the words that would be lost; nothing is ever truncated).
    """
    found = re.findall(r"{(\w*)}", text)
    for slot in slots:
        if found.count(slot) != 1:
            raise UsageError(f"the text {text!r} must hold {{{slot}}} once, it holds it {found.count(slot)} times")
    if unknown := [slot for slot in found if slot not in slots]:
        raise UsageError(f"unknown slot {{{unknown[0]}}} in {text!r}; known: {', '.join(f'{{{s}}}' for s in slots)}")
    if not isinstance(tokenizer, Sections):
        return _prompt(_alone(tokenizer), text, slots, template)
    prompts, at = [_prompt(section, text, slots, template, everything=True) for section in tokenizer.each], 0
    ids, learned, groups = tuple[int, ...](), list[tuple[int, str, int]](), dict[tuple[str, str], tuple[int, ...]]()
    for section, prompt in zip(tokenizer.each, prompts, strict=True):
        learned += [(at + position, slot, n) for position, slot, n in prompt.learned]
        for key, positions in prompt.groups.items() if section.rows else ():
            groups[key] = groups.get(key, ()) + tuple(at + position for position in positions)
        ids += prompt.ids
        at = len(ids)
    return Prompt(text, ids, tuple(learned), groups, tuple(prompt.used[0] for prompt in prompts))


def _alone(tokenizer: Any) -> Section:
    """CLIP's tokenizer as the one reader."""
    ends = (int(tokenizer.bos_token_id),), (int(tokenizer.eos_token_id),)
    return Section(tokenizer, (), *ends, (int(tokenizer.pad_token_id),), int(tokenizer.model_max_length))


def _prompt(section: Section, text: str, slots: Mapping[str, Words], template: str, everything: bool = False) -> Prompt:
    """What one reader gets.  ``everything``: the group CONTENT holds function words, too."""
    head, _, tail = template.partition("{text}")
    places = list(_words(section, head, role="template"))
    for i, piece in enumerate(re.split(r"{(\w*)}", text)):
        if i % 2 == 0:
            joined = piece[:1].strip() != ""  # to the slot before it: "{subject}'s"
            places += _words(section, piece, role="content", first=not places, joined=joined and i > 0)
            continue
        noun, vectors, rare = slots[piece]
        learned = [_Place(None, f"<{piece}_{n}>", piece, "token") for n in range(vectors)]
        first = not places and not learned
        said = [place._replace(slot=piece, role="token") for place in _words(section, rare, first=first)]
        first = first and not said
        named = [place._replace(slot=piece, role="noun") for place in _words(section, noun or "", first=first)]
        if not named and (noun is not None or not vectors):
            raise UsageError(f"the noun {noun!r} is no word for the tokenizer; give the class word, such as 'mug'")
        places += learned + said + named
    places += _words(section, tail, role="template", first=not places)

    ends = len(section.start) + len(section.end)
    if len(places) > section.length - ends:
        lost = dict.fromkeys(place.word for place in places[section.length - ends :])
        reads = f"this model's {section.name} reads" if section.name else "this model reads"
        raise UsageError(
            f"the prompt is {len(places) + ends} tokens long and {reads} {section.length}: "
            f"{' '.join(lost)!r} would be lost; shorten the text"
        )
    return _positions(section, text, places, tuple(slots), everything)


def _positions(section: Section, text: str, places: list[_Place], slots: tuple[str, ...], everything: bool) -> Prompt:
    before = len(section.start)
    stands_in = (*section.start, *section.end)[0]
    body = [stands_in if place.id is None else place.id for place in places]
    ids = (*section.start, *body, *section.end)
    padding = [section.paddings[0]] * (section.length - len(ids))

    phrase = tuple(i for i, place in enumerate(places, before) if place.role not in ("", "template"))
    content = tuple(i for i, place in enumerate(places, before) if place.role or everything)
    learned: list[tuple[int, str, int]] = []
    groups: dict[tuple[str, str], tuple[int, ...]] = {}
    for slot in slots:
        token = tuple(i for i, p in enumerate(places, before) if (p.slot, p.role) == (slot, "token"))
        noun = tuple(i for i, p in enumerate(places, before) if (p.slot, p.role) == (slot, "noun"))
        places_of = (i for i in token if places[i - before].id is None)
        learned += [(position, slot, n) for n, position in enumerate(places_of)]
        of_slot = {"token": token or noun, "noun": noun or token, "subject": token + noun, "phrase": phrase}
        groups |= {(slot, group): of_slot[group] for group in TOKEN_GROUPS} | {(slot, CONTENT): content}
    return Prompt(text, (*ids, *padding), tuple(learned), groups, (len(ids),))


def _words(section: Section, text: str, role: str = "", first: bool = True, joined: bool = False) -> Iterator[_Place]:
    """The tokens of each word; function words and tokens of nothing but punctuation have no role.

    ``first``: the text begins here.  ``joined``: its first word follows the one before without a space.
    """
    joined = joined or (first and section.spaced)
    for n, word in enumerate(text.split()):
        carries = word.strip(string.punctuation).lower() not in FUNCTION_WORDS
        ids = section.ids(word, joined and n == 0)
        for id, token in zip(ids, section.tokenizer.convert_ids_to_tokens(ids), strict=True):
            letters = token.removesuffix("</w>").lstrip(SPACES).strip(string.punctuation)
            yield _Place(int(id), word, role=role if carries and letters else "")
