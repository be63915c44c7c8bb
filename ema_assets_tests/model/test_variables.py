"""Tests of secrets in environment variables: how they are read, and which are refused."""

import pytest

from ema_assets.model.errors import ConfigurationError
from ema_assets.model.variables import Secret

SECRET = Secret("EMA_TOY_TOKEN")


@pytest.mark.parametrize("text", ["topsecret", " topsecret\n", "topsecret\r\n"])
def test_a_secret_is_read_without_surrounding_whitespace(text: str) -> None:
    assert SECRET.read({"EMA_TOY_TOKEN": text}) == "topsecret"


@pytest.mark.parametrize("env", [{}, {"EMA_TOY_TOKEN": ""}, {"EMA_TOY_TOKEN": "\n"}])
def test_an_empty_secret_is_none(env: dict[str, str]) -> None:
    assert SECRET.read(env) is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("top\nsecret", "a control character, such as a line end"),
        ("top\x1bsecret", "a control character, such as a line end"),
        ("top\N{RIGHT SINGLE QUOTATION MARK}secret", "none of ASCII"),
        ("top\udcffsecret", "none of ASCII"),
    ],
)
def test_a_secret_that_no_header_can_contain_is_refused_by_name_and_not_shown(text: str, what: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        SECRET.read({"EMA_TOY_TOKEN": text})
    assert str(refused.value) == (
        f"`EMA_TOY_TOKEN` must consist of printable ASCII characters; number 4 of 10 is {what}"
    )
