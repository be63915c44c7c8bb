"""Tests of the colours of the board: text has a contrast of at least 4.5 in both themes, as WCAG AA requires."""

import re
from importlib import resources

import pytest

CSS = resources.files("ema_assets.board").joinpath("static", "board.css").read_text()
LIGHT, DARK, CHOSEN_DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})\b", block))
    for block in re.findall(r":root[^{]*\{([^}]*)\}", CSS)[:3]
)
PAIRS = [
    *((name, "panel") for name in ("ink", "soft", "accent", "gain", "loss", "warn", "fast", "slow", "faint")),
    *((f"c{line}", "panel") for line in range(2, 8)),
    ("faint", "bg"),
    ("soft", "hover"),
    *(("ink", f"{side}{shade}") for side in "ud" for shade in (1, 2, 3)),
    *((ink, f"{side}{shade}") for side, ink in (("u", "deep-ink"), ("d", "deep-ink-d")) for shade in (4, 5)),
    ("warn", "warn-bg"),
    ("gain", "good-bg"),
]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(each * 2 for each in color[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("ink", "behind"), PAIRS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_enough_contrast_with_its_background(theme: str, ink: str, behind: str) -> None:
    colors = LIGHT if theme == "light" else {**LIGHT, **DARK}
    assert contrast(colors[ink], colors[behind]) >= 4.5


def test_the_dark_theme_has_the_same_colours_by_system_setting_and_by_choice() -> None:
    assert DARK == CHOSEN_DARK


def test_the_white_sign_of_each_trust_lamp_has_enough_contrast_with_its_colour() -> None:
    lamps = re.findall(r"\.trust\.\w+ \.lamp \{ background: (#[0-9a-f]{6}); \}", CSS)
    assert len(lamps) == 4
    assert min(contrast("#ffffff", lamp) for lamp in lamps) >= 4.5
