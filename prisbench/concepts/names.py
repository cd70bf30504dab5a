"""Words for what is learned: a rare word that stands for a subject, names for its tokens, whether
a noun is a word.

Knows: vocabularies of CLIP, T5 and Qwen.  Does not know: models, what is learned.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from prisbench.diffusion.prompts import FUNCTION_WORDS, SPACES
from prisbench.errors import UsageError

LARGE_VOCABULARY = 10_000
"""With more tokens than this, most words of a language are there; with fewer, all words there are
in use.
"""


def rare_word(tokenizer: Any, taken: Iterable[str] = ()) -> str:
    """A word of one token that means nothing, for a subject (DreamBooth; Ruiz et al. 2022, arXiv
    2208.12242, 4.3).

    CLIP's vocabulary is in the order in which its pieces were merged, the most frequent first: the
    word is the last one of three or four small letters that neither is a function word nor stands
    in ``taken`` texts.  In a vocabulary made for a few captions every such piece is in use, and
    the word is the last single letter that is not.
    """
    words = {word for text in taken for word in re.findall(r"[a-z]+", text.lower())} | FUNCTION_WORDS
    letters = r"[a-z]{3,4}" if len(tokenizer) > LARGE_VOCABULARY else r"[a-z]"
    wholly = rf"{letters}</w>|[{SPACES}]{letters}"  # a whole word, as CLIP writes it; as T5 and Qwen do
    found = [(id, token) for token, id in tokenizer.get_vocab().items() if re.fullmatch(wholly, token)]
    for id, token in sorted(found, reverse=True):
        word = token.removesuffix("</w>").lstrip(SPACES)
        if word not in words and tokenizer(word, add_special_tokens=False).input_ids == [id]:
            return word
    raise UsageError("no rare word is left in this tokenizer's vocabulary; say one with --set learner.rare=WORD")


def check_rare_word(tokenizer: Any, word: str, noun: str) -> None:
    """Raises UsageError for a rare word without tokens, of several words, or that is the noun."""
    if not tokenizer(word, add_special_tokens=False).input_ids or len(word.split()) != 1:
        raise UsageError(f"learner.rare={word!r} is no single word for the tokenizer; say one such as 'sks'")
    if word.lower() in noun.lower().split():
        raise UsageError(f"learner.rare={word!r} is the noun; the subject needs a word of its own, such as 'sks'")


def unfamiliar(tokenizer: Any, noun: str) -> str | None:
    """One line when a word of the noun is spelled out rather than known: the model may never have
    seen it.

    That is, more pieces than half its letters.
    """
    for word in noun.split():
        pieces = tokenizer.convert_ids_to_tokens(tokenizer(word, add_special_tokens=False).input_ids)
        if len(pieces) > 1 and 2 * len(pieces) > len(word):
            known = [token.removesuffix("</w>") for token in tokenizer.get_vocab() if token.endswith("</w>")]
            known += [word[1:] for word in tokenizer.get_vocab() if word[:1] in tuple(SPACES) and word[-4:] != "</w>"]
            near = difflib.get_close_matches(word.lower(), sorted(w for w in known if len(w) > 2), n=1, cutoff=0.6)
            hint = f"; the nearest word it knows is {near[0]!r}" if near else ""
            spelled = " ".join(piece.removesuffix("</w>").lstrip(SPACES) for piece in pieces)
            return f"the noun {word!r} is no word for this tokenizer ({spelled}), the model may not know it{hint}"
    return None


def placeholders(tokenizer: Any, name: str, vectors: int) -> list[str]:
    """The tokens that stand for a concept's vectors in other programs: ``name``, ``name_1``,
    ``name_2``, ...

    diffusers writes them into prompts by plain replacement, so a token that is there already, or
    that begins another, would be torn apart.  Raises UsageError for such a name.
    """
    if not name or any(letter.isspace() for letter in name):
        raise UsageError(f"a token's name must be one word, such as <my-mug>; not {name!r}")
    tokens = [name, *(f"{name}_{n}" for n in range(1, vectors))]
    vocabulary = set(tokenizer.get_vocab())
    for token in tokens:
        if token in vocabulary or f"{token}</w>" in vocabulary:
            raise UsageError(f"the tokenizer has a token {token!r} already; choose another name, such as <{name}-1>")
    for other in sorted(tokenizer.get_added_vocab()):
        if other.startswith(name) or name.startswith(other):
            shorter, longer = sorted((name, other), key=len)
            raise UsageError(f"the token {shorter!r} is the beginning of {longer!r}; choose a name such as <{name}-1>")
    return tokens
