"""Symbols that exchanges have renamed, for advice: a provider no longer answers to the old name. No data is moved."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Rename:
    """The current name of a symbol, and since when it has it."""

    to: str
    since: date


# As the companies announced them. A newer rename is one more line.
RENAMED: Mapping[str, Rename] = MappingProxyType(
    {
        "VIAC": Rename("PARA", date(2022, 2, 17)),
        "BLL": Rename("BALL", date(2022, 5, 10)),
        "FB": Rename("META", date(2022, 6, 9)),
        "ANTM": Rename("ELV", date(2022, 6, 28)),
        "ABC": Rename("COR", date(2023, 8, 30)),
        "MATIC-USD": Rename("POL-USD", date(2024, 9, 4)),
        "SQ": Rename("XYZ", date(2025, 1, 21)),
        "PARA": Rename("PSKY", date(2025, 8, 7)),
        "MMC": Rename("MRSH", date(2026, 1, 14)),
    }
)


def current(symbol: str) -> Rename | None:
    """Return the newest name of `symbol`, through all renames; None when it was not renamed."""
    found = RENAMED.get(symbol)
    while found is not None and found.to in RENAMED:
        found = RENAMED[found.to]
    return found
