"""The tokenizer of the embedded backbone.

Knows: byte pairs.  Does not know: which words there are, models.
"""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any, cast

from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import CLIPTokenizer

from prisbench.runtime.files import new_folder


def make_tokenizer(folder: Path, words: list[str], context: int) -> CLIPTokenizer:
    """A byte-level CLIPTokenizer that has each of these words as one token; any other text falls
    to pieces.

    One that is in the folder already is taken as it is: a run goes on with the ids it began with.
    """
    if (folder / "tokenizer.json").is_file():
        return CLIPTokenizer.from_pretrained(folder, model_max_length=context)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = byte_pairs(words)
    vocab: dict[str, int] = {}
    for piece in [
        *alphabet,
        *(c + "</w>" for c in alphabet),
        *(a + b for a, b in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]:
        vocab.setdefault(piece, len(vocab))
    tokenizer = CLIPTokenizer(vocab=vocab, merges=cast(Any, merges), model_max_length=context)
    for word in words:
        if len(tokenizer(word, add_special_tokens=False).input_ids) != 1:
            raise AssertionError(f"{word!r} is not one token")
    with new_folder(folder) as temp:
        tokenizer.save_pretrained(temp)
    return tokenizer


def byte_pairs(words: list[str]) -> list[tuple[str, str]]:
    """Merges that make each word one piece: always the commonest pair, of equals the first in the
    alphabet.

    ``tokenizers``' own trainer breaks ties by the order of a hash table, which is another one in
    every process.
    """
    pieces = [[*word[:-1], f"{word[-1]}</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while counts := Counter(pair for word in pieces for pair in itertools.pairwise(word)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        for word in pieces:
            for i in range(len(word) - 2, -1, -1):
                if tuple(word[i : i + 2]) == best:
                    word[i : i + 2] = ["".join(best)]
    return merges


def token_ids(tokenizer: CLIPTokenizer, texts: list[str], length: int) -> Tensor:
    """Padded to ``length``, as the pipeline does."""
    encoded = tokenizer(texts, padding="max_length", max_length=length, truncation=False, return_tensors="pt")
    if encoded.input_ids.shape[1] != length:
        raise AssertionError("a caption is longer than the context")
    return encoded.input_ids
