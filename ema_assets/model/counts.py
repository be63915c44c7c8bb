"""How counts are said in sentences. No I/O."""


def times(count: int) -> str:
    """`once`, or how many times."""
    return "once" if count == 1 else f"{count} times"
