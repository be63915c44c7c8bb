"""How counts are said in sentences. No I/O."""


def times(count: int) -> str:
    """`once`, or how many times."""
    return "once" if count == 1 else f"{count:,} times"


def times_in_a_row(count: int) -> str:
    """As `times`, of what has happened each time since."""
    return times(count) if count == 1 else f"{times(count)} in a row"


def noun(number: int, what: str, many: str | None = None) -> str:
    """`gap` for one, `gaps` for any other number; of words with another plural, `many` is it."""
    return what if number == 1 else many or f"{what}s"


def counted(number: int, what: str, many: str | None = None) -> str:
    """`1 gap`, `2 gaps`; of words with another plural, `many` is it."""
    return f"{number:,} {noun(number, what, many)}"
