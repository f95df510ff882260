"""The geometry of deep-zoom tiles. Pure, no Django: the site and the cutting process must agree on it.

Level 0 is the smallest and lies in one tile, the last is the picture at full size; each has half the sides of the next,
rounded up. Tiles are squares without overlap, cut off at the right and bottom border.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

TILE_PX: Final = 512


@dataclass(frozen=True, slots=True)
class Level:
    level: int
    width: int
    height: int

    @property
    def columns(self) -> int:
        return -(-self.width // TILE_PX)

    @property
    def rows(self) -> int:
        return -(-self.height // TILE_PX)

    def tiles(self) -> Iterator[tuple[int, int]]:
        """(column, row), row by row."""
        return ((column, row) for row in range(self.rows) for column in range(self.columns))

    def box(self, column: int, row: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels of this level."""
        left, top = column * TILE_PX, row * TILE_PX
        return left, top, min(left + TILE_PX, self.width), min(top + TILE_PX, self.height)


def levels_of(width_px: int, height_px: int) -> list[Level]:
    """From level 0 to the full size."""
    sizes = [(width_px, height_px)]
    while max(sizes[-1]) > TILE_PX:
        width, height = sizes[-1]
        sizes.append((-(-width // 2), -(-height // 2)))
    return [Level(level, *size) for level, size in enumerate(reversed(sizes))]


def tile_count(width_px: int, height_px: int) -> int:
    return sum(level.columns * level.rows for level in levels_of(width_px, height_px))
