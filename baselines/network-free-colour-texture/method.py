"""network-free-colour-texture: a predictor without a network; see prisbench/network_free/predictors.py."""

from __future__ import annotations

from prisbench import MethodOptions, NetworkFree

USES = ("settings",)


def make(options: MethodOptions) -> NetworkFree:
    return NetworkFree.make("colour-texture", options)
