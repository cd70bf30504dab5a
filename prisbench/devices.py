"""Where torch computes.

Knows: the names of devices.  Does not know: models; torch only once it is asked.
"""

from __future__ import annotations

from prisbench.errors import UsageError


def usable_device(name: str) -> str:
    """The device asked for; "auto" is the best there is.  Raises UsageError when torch cannot use it."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except Exception as error:
        raise UsageError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}); try --device cpu"
        ) from None
    return name
