"""``attn``'s words, and what the subject looks like where they find it in its own photos."""

from prisbench import FeaturesMethod, MethodOptions

USES = ("concept", "model", "seed", "settings")


def check(options: MethodOptions) -> None:
    FeaturesMethod.check(options)


def make(options: MethodOptions) -> FeaturesMethod:
    return FeaturesMethod.make(options)
