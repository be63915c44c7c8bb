"""Tests of error messages that name the allowed values."""

from ema_assets.model.errors import not_one_of


def test_a_long_list_of_allowed_values_is_shortened_and_the_closest_one_is_suggested() -> None:
    allowed = [f"S{number:04}" for number in range(5000)]
    said = str(not_one_of("symbol", "S4711X", allowed))
    assert said.startswith("`symbol` must be one of S0000, S0001, ")
    assert said.endswith("S0099 and 4900 more, received 'S4711X'; did you mean `S4711`?")
    assert str(not_one_of("side", "up", ["long", "short"])) == "`side` must be one of long, short, received 'up'"
    assert str(not_one_of("--group", "us", ["US", "Crypto"])).endswith("received 'us'; did you mean `US`?")
    ending = "the ending of --output must be one of png, svg, received 'gif'"
    assert str(not_one_of("the ending of --output", "gif", ["png", "svg"])) == ending
    none = "`strategy` must be one of those that are on, of which there is none, received 'mine'"
    groups = "`--group` must be one of US stocks, \"From files, 24/7\", received 'EU'"
    assert str(not_one_of("--group", "EU", ["US stocks", "From files, 24/7"])) == groups
    assert str(not_one_of("strategy", "mine", [])) == none
