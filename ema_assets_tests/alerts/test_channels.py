"""Tests of channels: their secrets come from the environment and are never shown."""

import pytest

from ema_assets.alerts.channels import Channel, inline_channel, problem_with_template, without_secrets
from ema_assets.model.errors import ConfigurationError

TOKEN = "123456789:AAH-very_secret-token"
ENV = {
    "TOKEN": TOKEN,
    "CHAT": "-100123",
    "PASSWORD": "p@ss/w?rd#1",
    "WHOLE": "json://host.example/hook?a=b",
    "BLANK": " ",
}


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("tgram://${TOKEN}/${CHAT}", f"tgram://{TOKEN}/-100123"),
        # A variable that is a part of the URL is quoted, because a password may have any characters.
        ("mailto://me:${PASSWORD}@example.com", "mailto://me:p%40ss%2Fw%3Frd%231@example.com"),
        ("${WHOLE}", "json://host.example/hook?a=b"),
        ("ntfy://my-topic", "ntfy://my-topic"),
    ],
)
def test_variables_are_inserted_into_a_url(template: str, url: str) -> None:
    assert Channel("phone", template).url(ENV) == url


def test_an_error_names_only_the_variables_that_are_not_set() -> None:
    channel = Channel("phone", "tgram://${TOKEN}/${NOT_SET}/${BLANK}/literal-secret")
    with pytest.raises(ConfigurationError) as raised:
        channel.url(ENV)
    assert str(raised.value) == (
        "the channel phone needs the environment variables `NOT_SET`, `BLANK`, which are not set"
    )
    with pytest.raises(
        ConfigurationError, match="^the channel CHAT needs the environment variable `CHAT`, which is not set$"
    ):
        inline_channel("${CHAT}").url({})


def test_a_channel_without_a_name_is_named_after_its_scheme_and_shows_no_secret() -> None:
    one, other = (inline_channel(f"tgram://{token}/chat") for token in ("secret-one", "secret-two"))
    assert one.name != other.name
    assert one == inline_channel("tgram://secret-one/chat")
    for channel in (one, other):
        assert channel.name.startswith("tgram-")
        assert len(channel.name) == len("tgram-") + 6
        assert "secret" not in repr(channel)
    assert inline_channel("${SLACK_URL}").name == "SLACK_URL"
    assert (one.scheme, inline_channel("${SLACK_URL}").scheme) == ("tgram", "?")
    capitals = inline_channel("TGRAM://secret-one/chat")
    assert (capitals.scheme, capitals.name.partition("-")[0]) == ("tgram", "tgram")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("tgram://${TOKEN}/${CHAT}", None),
        ("mailto://me:${PASSWORD}@example.com", None),
        ("mailto://me@example.com", None),
        ("${WHOLE}", None),
        ("mailto://me:hunter2@example.com", "has a password in it"),
        ("jsons://me:hunter2${X}@example.com/", "has a password in it"),
        *(
            (f"json://h/x?a=b&{name}=hunter2", "has a parameter with a password, a token or a key in it")
            for name in (
                *("pass", "password", "Token", "apikey", "api_key", "key", "secret", "client_secret", "access_token"),
                *("pwd", "oauth_secret", "+Authorization", "%2BX-Auth-Token", "-sig", ":passphrase"),
            )
        ),
        ("jsons://h/x?token=hunter2${X}", "has a parameter with"),
        ("jsons://h/x?+Authorization=Bearer%20hunter2", "has a parameter with"),
        ("json://h/x?pass=${PASSWORD}&token=${TOKEN}&a=b", None),
        ("json://h/x?+Authorization=Bearer%20${TOKEN}", None),
        ("json://h/x?+Authorization=Bearer+${TOKEN}", None),
        ("ntfy://topic?auth=token&priority=high&bypass=yes&keyboard=no&to=me&pass=", None),
        ("hunter2", "must be a URL of Apprise"),
        ("prefix ${WHOLE}", "must be a URL of Apprise"),
        ("tgram://${TO KEN}/x", "has `${` without the name"),
        ("", "must be a URL of Apprise"),
    ],
)
def test_a_problem_with_a_url_is_reported_without_its_secret(template: str, problem: str | None) -> None:
    found = problem_with_template(template)
    assert (found is None) == (problem is None)
    if found is not None and problem is not None:
        assert found.startswith(problem)
        assert "hunter2" not in found


def test_secret_parts_of_the_url_are_removed_from_an_error() -> None:
    url = f"tgram://{TOKEN}/-100123?key=query-secret"
    said = (
        f"Failed to send: HTTPSConnectionPool(host='api.telegram.org'): /bot{TOKEN}/sendMessage "
        f"chat -100123 query-secret AAH-very_secret-token"
    )
    assert without_secrets(said, url) == (
        "Failed to send: HTTPSConnectionPool(host='api.telegram.org'): /bot***/sendMessage chat *** *** ***"
    )
    web = "json://user:p%40ssword@hooks.example.com:8080/T0KEN0/path"
    said = "hooks.example.com:8080 refused user with p@ssword (p%40ssword) at /T0KEN0/path, error=404"
    assert without_secrets(said, web) == "hooks.example.com:8080 refused user with *** (***) at /***/path, error=404"


def test_short_words_and_the_scheme_stay_in_an_error_although_the_url_contains_them() -> None:
    said = "tgram://: bot1 has no topic T0KEN at tgram:abcd"
    assert without_secrets(said, "tgram://bot1/T0KEN/abcd") == "tgram://: bot1 has no topic *** at tgram:abcd"


def test_the_host_part_of_most_urls_and_text_that_is_not_a_url_are_hidden() -> None:
    assert without_secrets("slack refused secret-one", "slack://secret-one/secret-two") == "slack refused ***"
    assert without_secrets("no service for secret-one", "secret-one/secret-two") == "no service for ***"
