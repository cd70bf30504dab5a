"""Points of a map that are higher than all around them.

Knows: maps.  Does not know: models, subjects.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import ndimage


def peaks(map_: Float[np.ndarray, "h w"], most: int, apart: int) -> list[tuple[int, int]]:
    """Up to so many points, x first, the highest first; no other pixel within ``apart`` rows and columns is higher.

    The first is where the map is highest.  Of a plateau only the first pixel counts.
    """
    highest = ndimage.maximum_filter(map_, size=2 * apart + 1, mode="nearest")
    rows, columns = np.nonzero(map_ == highest)
    order = np.lexsort((columns, rows, -map_[rows, columns]))
    found: list[tuple[int, int]] = []
    for n in order:
        x, y = int(columns[n]), int(rows[n])
        if len(found) < most and all(max(abs(x - a), abs(y - b)) > apart for a, b in found):
            found.append((x, y))
    return found
