"""Wording of counts in sentences. No I/O."""


def times(count: int) -> str:
    """Return `once`, or the count with `times`, such as `1,200 times`."""
    return "once" if count == 1 else f"{count:,} times"


def times_in_a_row(count: int) -> str:
    """Return the text of `times` for consecutive events, such as `3 times in a row`."""
    return times(count) if count == 1 else f"{times(count)} in a row"


def noun(number: int, what: str, many: str | None = None) -> str:
    """Return `what` for one and its plural otherwise: `many`, or `what` with an s."""
    return what if number == 1 else many or f"{what}s"


def counted(number: int, what: str, many: str | None = None) -> str:
    """Return the number with its noun, such as `1 gap` or `2 gaps`; `many` is an irregular plural."""
    return f"{number:,} {noun(number, what, many)}"
