"""What a concept has become, on one sheet: its photos, where it is seen in them, how the model draws it, and its loss.

Knows: how to get all of it from a backbone.  Does not know: how the concept was learned, truth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from prisbench.concepts.class_images import canvas, nothing
from prisbench.concepts.class_images import sample as follow
from prisbench.concepts.recipes import DreamBooth, default_recipe
from prisbench.concepts.weights import adapted
from prisbench.diffusion.backbone import VECTORS, Backbone
from prisbench.diffusion.images import fit, unscaled
from prisbench.diffusion.noise import noise
from prisbench.diffusion.prompts import Words, compose
from prisbench.diffusion.text import condition, learned_vectors
from prisbench.images import drawing
from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.photos import resize_to
from prisbench.localizer.answer import locate
from prisbench.localizer.settings import LocalizerSettings
from prisbench.localizer.texts import rare_word
from prisbench.types import SLOT, Concept, Query

TEXT = f"a photo of a {SLOT}"
"""What the concept is looked for and drawn under."""

MOST_PHOTOS = 6
"""A sheet shows no more photos than this, spread evenly over all there are."""

CHART = 220
"""Side of the loss curve, in pixels: a tile of ``drawing.sheet``."""


def sheet(
    backbone: Backbone,
    concept: Concept,
    photos: Sequence[ImageLike],
    settings: LocalizerSettings,
    samples: int = 4,
    steps: int | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Rows of photos, of maps, of masks, and of what the model draws, with the loss curve; ``drawing.png`` files it.

    The curve is of the concept's own losses, one a step; a control has none, and its sheet no curve.  ``samples``
    pictures are drawn in ``steps`` steps (None: as many as pictures for the prior take).  A photo larger than the
    model's image is shown as the model sees it.  A photo in which the concept is not found has no outline and says so.

    Raises BackboneError for a concept of another backbone.
    """
    rows: list[list[tuple[str, ImageLike]]] = [[], [], [], []]
    query = Query("sheet", concept.subject_id, TEXT)
    for i in dict.fromkeys(np.linspace(0, len(photos) - 1, min(MOST_PHOTOS, len(photos))).round().astype(int).tolist()):
        photo = _as_seen(backbone, as_image(photos[i], f"photo {i + 1}"), settings)
        answer = locate(backbone, photo, [query], {concept.subject_id: concept}, settings)[0]
        assert answer.score is not None
        rows[0].append((f"photo {i + 1} of {len(photos)}", photo))
        presence = "" if answer.presence is None else f", presence {answer.presence:.2f}"
        rows[1].append((f"where{presence}", drawing.heat(photo, answer.score)))
        if answer.mask is None:
            rows[2].append(("not found", photo))
        else:
            found = f"found, {answer.mask.mean():.0%} of the photo"
            rows[2].append((found, drawing.outline(photo, answer.mask)))
    if samples:
        rows[3] += [(f"drawn, {i + 1}", one) for i, one in enumerate(drawn(backbone, concept, samples, steps))]
    learned = concept.tensors.get("losses")
    if learned is not None and np.isfinite(learned).any():
        rows[3].append((f"loss, {len(learned)} steps", curve(learned)))
    return drawing.sheet([row for row in rows if row], tile=CHART)


def drawn(
    backbone: Backbone, concept: Concept, samples: int, steps: int | None = None
) -> list[UInt8[np.ndarray, "h w 3"]]:
    """How the model draws the concept, in its own size: always the same pictures of the same concept.

    Raises BackboneError for a concept of another backbone.
    """
    recipe = default_recipe(backbone.family, "dreambooth")
    assert isinstance(recipe, DreamBooth)
    steps, guidance = steps or recipe.prior.steps, recipe.prior.guidance
    geometry, shape = canvas(backbone)
    slot = SLOT.strip("{}")
    with torch.no_grad(), adapted(backbone, concept):
        vectors = learned_vectors(backbone, concept.tensors, concept.id)
        words = Words(concept.noun, len(vectors[VECTORS[0]]), rare_word(concept))
        prompt = compose(backbone.tokenizer, TEXT, {slot: words})
        text = condition(backbone, [prompt], {slot: vectors}, geometry)
        without = nothing(backbone, geometry)
        out = []
        for n in range(samples):  # one by one: a picture does not depend on how many are asked for
            eps = noise("concept sheet", n, shape)[None]
            latents = follow(backbone, text, without, eps, steps, guidance)
            latents = unscaled(backbone.vae, latents.to(backbone.vae.dtype))
            pixels = (backbone.vae.decode(latents).sample[0].float().clamp(-1, 1) + 1) * 127.5
            picture = pixels.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            out.append(np.ascontiguousarray(picture[: geometry.resized_hw[0], : geometry.resized_hw[1]]))
    return out


def curve(losses: Float[np.ndarray, "_steps"], side: int = CHART) -> UInt8[np.ndarray, "side side 3"]:
    """The loss by step, pale, and its running mean over a tenth of the steps, dark; what is no number is left out.

    The loss of a step depends on its timesteps more than on what was learned, so the mean is what to look at.
    """
    steps = np.flatnonzero(np.isfinite(losses))
    known = losses[steps].astype(np.float64)
    width = max(1, len(known) // 10)
    means = np.convolve(known, np.ones(width) / width, mode="valid")
    low, high = 0.0, max(float(known.max()), 1e-12)
    left, top, fine = 40, 26, 4
    bottom, right = side - 20, side - 8
    canvas = Image.new("RGB", (side * fine, side * fine), "white")
    pen = ImageDraw.Draw(canvas)

    def points(at: np.ndarray, values: np.ndarray) -> list[tuple[float, float]]:
        x = left + (right - left) * at / max(1, len(losses) - 1)
        y = bottom - (bottom - top) * (values - low) / (high - low)
        return [(float(a) * fine, float(b) * fine) for a, b in zip(x, y, strict=True)]

    for line, colour, thick in (
        (points(steps, known), tuple((c + 2 * 255) // 3 for c in drawing.SKY), 1),
        (points(steps[width - 1 :], means), drawing.VERMILION, 2),
    ):
        if len(line) > 1:
            pen.line(line, fill=colour, width=thick * fine, joint="curve")
        else:
            x, y = line[0]
            pen.ellipse((x - 2 * fine, y - 2 * fine, x + 2 * fine, y + 2 * fine), fill=colour)
    pen.line([(left * fine, top * fine), (left * fine, bottom * fine), (right * fine, bottom * fine)], "black", fine)
    canvas = canvas.resize((side, side), Image.Resampling.LANCZOS)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=11)
    pen.text((left - 4, top), f"{high:.2g}", fill="black", font=font, anchor="rt")
    pen.text((left - 4, bottom), "0", fill="black", font=font, anchor="rb")
    pen.text((left, bottom + 4), "1", fill="black", font=font, anchor="lt")
    pen.text((right, bottom + 4), f"{len(losses)}", fill="black", font=font, anchor="rt")
    pen.text(((left + right) / 2, bottom + 4), "step", fill="black", font=font, anchor="mt")
    pen.text((right, 6), f"mean at the end {means[-1]:.3g}", fill=drawing.VERMILION, font=font, anchor="rt")
    return np.array(canvas)


def _as_seen(
    backbone: Backbone, photo: UInt8[np.ndarray, "h w 3"], settings: LocalizerSettings
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The photo, no larger than the model's image: 4,000 pixels would show nothing more in a tile."""
    h, w = photo.shape[:2]
    geometry = fit((h, w), settings.working_size, backbone.native_area_px, backbone.stride)
    return resize_to(photo, geometry.resized_hw) if geometry.resized_hw < (h, w) else photo
