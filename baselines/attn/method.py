"""The attention of a text-to-image diffusion model, with a learned concept or a control."""

from prisbench import AttentionMethod, MethodOptions

USES = ("concept", "model", "seed", "settings")


def check(options: MethodOptions) -> None:
    AttentionMethod.check(options)


def make(options: MethodOptions) -> AttentionMethod:
    return AttentionMethod.make(options)
