"""Reads the attention of a diffusion transformer while it runs, as ``diffusion.attention`` reads a U-Net's.

In joint attention image and text are rows of one sequence, and every block changes the text, too.  So a text's keys in
the ninth block are not had by projecting what its encoder said: the text has to be carried through the blocks.

    text      conditions the model as ever: image rows and its rows attend to both
    streams   further texts: their rows attend to the image's and to their own, nobody attends to them

A stream is what ConceptAttention's concept tokens are (Helbling et al. 2025, arXiv 2502.04320), for a whole text: the
image does not notice it, streams do not notice each other, and all texts about a photo share one pass.  Everything in a
block but its attention works row by row, so the streams' rows stand behind the text's and the blocks stay the
libraries' own.  Only the call in which they all meet, torch's fused attention, is taken apart while a pass is recorded.
There queries and keys are what the model uses: after normalisation and rotary embeddings, from fused projections or
separate ones, with LoRA layers in force.

Knows: rows of a sequence (``diffusion.families``), torch's fused attention.  Does not know: a model class, images,
prompts, what a map is used for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from prisbench.diffusion.attention import (
    Attention,
    Block,
    EverythingSeen,
    Recording,
    pull,
    record,
    transformer_blocks,
)
from prisbench.diffusion.transformer import Streams, Transformer
from prisbench.errors import BackboneError, UnknownNameError, UsageError


class How(NamedTuple):
    """What is kept of an attention with a text: ``families.DIRECTIONS``, KINDS; ``per_head``: heads apart."""

    per_head: bool = False
    direction: str = "image"
    maps: str = "attention"


class Wanted(NamedTuple):
    """Blocks by name: whose attention with texts is kept, and whose among image rows."""

    cross: Collection[str]
    self_: Collection[str]


def blocks_of(network: nn.Module) -> dict[str, Block]:
    """Every block of a U-Net or of a transformer in forward order; see ``transformer_blocks`` for U-Nets' names.

    A transformer's are called by what they are and numbered: ``joint.9``, ``double.18``, ``single.0``, ``block.27``.
    """
    if not isinstance(network, Transformer):
        return transformer_blocks(network)
    return {
        f"{word}.{i}": Block(module, network, network.patch)
        for word, attribute in network.sequence.lists.items()
        for i, module in enumerate(getattr(network.model, attribute))
    }


def recorder(
    network: nn.Module, columns: Float[Tensor, "p t c"], wanted: Wanted, streams: Streams | None, how: How
) -> AbstractContextManager[Recording]:
    """``attention.record`` for whatever network this is: its rules hold (the body calls the network once, last).

    ``columns`` weigh the rows of each stream, or without streams those of the text itself.  Among image rows attention
    is normalised anew: a hop spreads a map over the image alone.  Raises UsageError for a direction or kind that this
    network's attention does not have; UnknownNameError and BackboneError as ``attention.record``.
    """
    joint = isinstance(network, Transformer) and network.sequence.order != "cross"
    if not joint and (how.direction, how.maps) != ("image", "attention"):
        given = "localizer.direction=text" if how.direction != "image" else "localizer.maps=outputs"
        raise UsageError(f"{given} needs joint attention; words are no rows of this model's attention, only keys")
    if isinstance(network, Transformer):
        return _recorded(network, columns, wanted, streams, how)
    return record(network, columns, *wanted, None if streams is None else streams.states, how.per_head)


@contextmanager
def _recorded(
    network: Transformer, columns: Tensor, wanted: Wanted, streams: Streams | None, how: How
) -> Iterator[Recording]:
    blocks = blocks_of(network)
    for name in (*wanted.self_, *wanted.cross):
        if name not in blocks:
            raise UnknownNameError("transformer block", name, blocks)
    mode = _Reader(network, columns, wanted, streams, how)
    with ExitStack() as stack:
        stack.callback(setattr, network, "streams", network.streams)
        for handle in mode.hooks(blocks):
            stack.callback(handle.remove)
        network.streams = streams
        try:
            with mode:
                yield mode.recording
        except EverythingSeen:
            pass
    if mode.missing:
        raise BackboneError(f"the network never reached the blocks {sorted(name for _, name in mode.missing)}")


class _Rows(NamedTuple):
    """Queries, keys and values of some rows."""

    q: Tensor
    k: Tensor
    v: Tensor


class _Reader(TorchFunctionMode):
    """Stands in torch's fused attention for as long as a pass runs."""

    def __init__(
        self, network: Transformer, columns: Tensor, wanted: Wanted, streams: Streams | None, how: How
    ) -> None:
        super().__init__()
        self.network, self.columns, self.wanted, self.how = network, columns, wanted, how
        self.count, self.length = (0, 0) if streams is None else streams.states.shape[:2]
        self.recording = Recording()
        self.missing = {("self", name) for name in wanted.self_} | {("cross", name) for name in wanted.cross}
        self.grid, self.text = (0, 0), 0
        self.now: tuple[str, str] | None = None
        """The block whose attention comes next, and which of its attentions that is."""

    def hooks(self, blocks: Mapping[str, Block]) -> Iterator[Any]:
        """Hooks that tell which attention runs."""
        sequence = self.network.sequence

        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            sample, text = args[0], kwargs["encoder_hidden_states"]
            self.grid = self.network.tokens((int(sample.shape[-2]), int(sample.shape[-1])))
            self.text = int(text.shape[1])

        yield self.network.register_forward_pre_hook(enter, with_kwargs=True)
        for name, block in blocks.items():
            for kind in ("joint",) if sequence.joint == sequence.image else ("joint", "image"):
                layer = getattr(block.module, getattr(sequence, kind))
                yield layer.register_forward_pre_hook(lambda *_, name=name, kind=kind: self._next(name, kind))
                yield layer.register_forward_hook(lambda layer, *_: self._done(layer))

    def _next(self, name: str, kind: str) -> None:
        streams = self.count and kind == "joint"
        self.now = (name, kind) if streams or name in self.wanted.cross or name in self.wanted.self_ else None

    def _done(self, layer: Any) -> None:
        if self.now is not None:
            raise BackboneError(
                f"cannot read the attention of block {self.now[0]}: its processor "
                f"{type(getattr(layer, 'processor', None)).__name__} does not call torch's fused attention"
            )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention or self.now is None:
            return func(*args, **(kwargs or {}))
        (name, kind), self.now = self.now, None
        return self._attend(name, kind, *args, **(kwargs or {}))

    def _attend(
        self, name: str, kind: str, query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, **how: Any
    ) -> Tensor:
        """What the fused attention would give, with streams kept apart; what is wanted of it is recorded."""
        scale = how.get("scale") or query.shape[-1] ** -0.5
        rows, cells = _Rows(query, key, value), self.grid[0] * self.grid[1]
        if kind == "image":
            self._expect(name, rows, cells, cells)
            self._keep_image(name, rows, scale)
            return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, **how)
        texts = self.text + self.count * self.length
        if self.network.sequence.order == "cross":
            self._expect(name, rows, cells, texts)
            return self._cross(name, rows, attn_mask, scale)
        self._expect(name, rows, cells + texts, cells + texts)
        if attn_mask is not None:
            raise BackboneError(f"cannot read the attention of block {name}: it has a mask, which is not supported")
        return self._joint(name, rows, scale)

    def _expect(self, name: str, rows: _Rows, queries: int, keys: int) -> None:
        """Raises BackboneError unless the attention has the rows that image and text have."""
        found = rows.q.shape[2], rows.k.shape[2]
        if found != (queries, keys):
            h, w = self.grid
            raise BackboneError(
                f"block {name} has {found[0]} queries and {found[1]} keys where {queries} and {keys} are expected: an "
                f"image of {h} x {w} rows, and a text of {self.text}; this order of rows is not known"
            )

    def _joint(self, name: str, rows: _Rows, scale: float) -> Tensor:
        """Attention over image and text in one sequence."""
        image_first = self.network.sequence.order == "image, text"
        cells, texts = self.grid[0] * self.grid[1], self.text + self.count * self.length
        sizes = [cells, texts] if image_first else [texts, cells]
        halves = [_Rows(*each) for each in zip(*(x.split(sizes, 2) for x in rows), strict=True)]
        image, both = halves if image_first else halves[::-1]
        lengths = [self.text] + [self.length] * self.count
        text, *streams = (_Rows(*each) for each in zip(*(x.split(lengths, 2) for x in both), strict=True))
        own = _beside(image, text) if image_first else _beside(text, image)
        seen = F.scaled_dot_product_attention(*own, scale=scale)
        first, last = seen.split([cells, self.text] if image_first else [self.text, cells], 2)
        of_image, of_text = (first, last) if image_first else (last, first)
        with_image = [_beside(image, each) for each in streams]
        of_streams = [
            F.scaled_dot_product_attention(stream.q, every.k, every.v, scale=scale)
            for stream, every in zip(streams, with_image, strict=True)
        ]
        if name in self.wanted.cross:
            watched = list(zip(streams, with_image, of_streams, strict=True))
            watched = watched or [(text, _beside(image, text), of_text)]
            maps = [
                self._map(weights, image.q, each, every, (of_image, out), scale)
                for weights, (each, every, out) in zip(self.columns, watched, strict=True)
            ]
            self._keep_maps(name, maps)
        self._keep_image(name, image, scale)
        given = torch.cat([of_text, *of_streams], 2)
        return torch.cat([of_image, given] if image_first else [given, of_image], 2)

    def _map(
        self,
        weights: Float[Tensor, "t c"],
        queries: Tensor,
        text: _Rows,
        every: _Rows,
        outputs: tuple[Tensor, Tensor],
        scale: float,
    ) -> Float[Tensor, "b heads n c"]:
        """The columns of one text; ``every`` has the image's rows first."""
        weights, cells = weights.to(queries.device, torch.float32), queries.shape[2]
        if self.how.maps == "outputs":
            return _of_outputs(*outputs, weights, self.how.per_head)
        if self.how.direction == "text":
            return _of_words(text.q, every.k, weights, cells, scale)
        nothing = weights.new_zeros(cells, weights.shape[1])
        values = torch.cat([nothing, weights]).expand(len(queries), -1, -1)
        return pull(Attention(queries, every.k, scale, self.grid), values)

    def _cross(self, name: str, rows: _Rows, mask: Tensor | None, scale: float) -> Tensor:
        """Attention of image rows to a text that is none of the sequence's; streams are scored and change nothing."""
        lengths = [self.text] + [self.length] * self.count
        keys, values = rows.k.split(lengths, 2), rows.v.split(lengths, 2)
        masks = [None] * len(lengths) if mask is None else list(mask.split(lengths, -1))
        if name in self.wanted.cross:
            first = 1 if self.count else 0
            maps = []
            for weights, key, hidden in zip(self.columns, keys[first:], masks[first:], strict=True):
                values_ = weights.to(key.device, torch.float32).expand(len(key), -1, -1)
                floats = hidden if hidden is None or hidden.dtype is torch.bool else hidden.float()
                maps.append(pull(Attention(rows.q, key, scale, self.grid), values_, floats))
            self._keep_maps(name, maps)
        return F.scaled_dot_product_attention(rows.q, keys[0], values[0], attn_mask=masks[0], scale=scale)

    def _keep_maps(self, name: str, maps: list[Tensor]) -> None:
        kept = [each if self.how.per_head else each.mean(1, keepdim=True) for each in maps]
        self.recording.cross[name] = torch.cat(kept, -1).transpose(2, 3).unflatten(3, self.grid)
        self._seen("cross", name)

    def _keep_image(self, name: str, image: _Rows, scale: float) -> None:
        if name in self.wanted.self_:
            q, k = image.q.detach().float(), image.k.detach().float()
            self.recording.self_attention[name] = Attention(q, k, scale, self.grid)
            self._seen("self", name)

    def _seen(self, kind: str, name: str) -> None:
        self.missing.discard((kind, name))
        if not self.missing:
            raise EverythingSeen


def _beside(first: _Rows, second: _Rows) -> _Rows:
    return _Rows(*(torch.cat(pair, 2) for pair in zip(first, second, strict=True)))


def _of_words(
    queries: Float[Tensor, "b heads t d"],
    keys: Float[Tensor, "b heads m d"],
    weights: Float[Tensor, "t c"],
    cells: int,
    scale: float,
) -> Float[Tensor, "b heads n c"]:
    """Where words look: their attention to image rows, of all that they attend to, summed with the columns' weights.

    Only the rows of words that a column weighs are formed, a few times n numbers.
    """
    used = weights.any(1)
    scores = scale * queries[:, :, used].float() @ keys.float().mT
    return torch.einsum("bhrn,rc->bhnc", scores.softmax(-1)[..., :cells], weights[used])


def _of_outputs(
    image: Float[Tensor, "b heads n d"],
    text: Float[Tensor, "b heads t d"],
    weights: Float[Tensor, "t c"],
    per_head: bool,
) -> Float[Tensor, "b _k n c"]:
    """How alike what attention gave a place and a word are: scalar products, softmax over the words.

    As ConceptAttention (arXiv 2502.04320) compares them, over the words that any column weighs.
    """
    used = weights.any(1)
    image, text = image.float(), text[:, :, used].float()
    if not per_head:
        image, text = (x.transpose(1, 2).flatten(2)[:, None] for x in (image, text))
    return (image @ text.mT).softmax(-1) @ weights[used]
