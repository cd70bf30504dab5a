"""The attention of a text-to-image diffusion model, with a learned concept or a control."""

from prisbench import AttentionMethod, MethodOptions


def check(options: MethodOptions) -> None:
    AttentionMethod.check(options)


def make(options: MethodOptions) -> AttentionMethod:
    return AttentionMethod.make(options)
