"""Payloads in traces: without secrets, bounded, and without running the program's code."""

from __future__ import annotations

from typing import Any

import pytest

from miros_cache_net import limits
from miros_cache_net.observe.shown import shown_line, shown_payload
from miros_cache_net.payloads import ConnectionDiscoveryPayload
from miros_cache_net.wire.keyring import KeyRing, generate_key

KEY = generate_key().decode()


@pytest.mark.parametrize(
    "payload",
    [
        "amqp://guest:sesame@host",
        {"url": "amqps://guest:p@ss:sesame/x@host:5671/vhost"},
        "amqp://guest:p sesame@host",
        "amqp://guest:p'sesame@host",
        {"url": 'amqp://guest:p"sesame@host'},
        "https://sesame@host",
        {"password": "sesame"},
        {"RABBIT_PASSWORD": ["sesame"]},
        {"nested": {"api_key": "sesame"}},
        "password=sesame",
        "{'db_password': 'sesame seed'}",
        "token: sesame",
        ConnectionDiscoveryPayload(["h"], ["amqp://guest:sesame@h"], "x"),
        {"x" * 100: "amqp://guest:" + "sesame" * 2000 + "@host"},
    ],
    ids=str,
)
def test_secrets_are_hidden(payload: Any) -> None:
    assert "sesame" not in shown_payload(payload)


@pytest.mark.parametrize("secret", [KEY, KeyRing.from_keys([KEY]).encrypt(b"x").decode()], ids=["key", "sealed"])
def test_keys_and_sealed_messages_are_hidden(secret: str) -> None:
    assert secret not in shown_line(f"the key is {secret}, and more")


@pytest.mark.parametrize("payload", ["a plain text", {"hosts": ["10.0.0.1:5672"], "n": 1.5}, (1, None, True)], ids=str)
def test_what_is_no_secret_is_shown(payload: Any) -> None:
    shown = shown_payload(payload)
    assert all(
        part in shown for part in ("a plain text", "10.0.0.1:5672", "1.5", "None", "True") if part in repr(payload)
    )


def test_urls_without_logins_are_shown() -> None:
    text = "['amqp://one:5672', \"amqp://two:5672/vhost\"] and https://three/@x, amqp://u:p q@four amqp://v:r@five"
    shown = text.replace("u:p q@", "***@").replace("v:r@", "***@")
    assert shown_line(text) == shown


def test_programs_own_objects_are_told_by_type() -> None:
    class Bomb:
        def __repr__(self) -> str:
            raise RuntimeError("must not run")

    assert shown_payload([Bomb()]) == "[<Bomb>, ]"


def test_text_is_bounded_whatever_the_payload() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for payload in ("x" * 10_000_000, list(range(1_000_000)), endless, {str(n): "y" * 1000 for n in range(1000)}):
        assert len(shown_payload(payload)) <= limits.STEP_TEXT


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer s3cr",
        "Authorization: Basic s3cr",
        "Authorization: Digest s3cr",
        "curl -H 'bearer s3cr'",
        "Bearer  s3cretS3cret",
        "basic s3cretS3cret",
        "{'pass': 's3cr'}",
        "pwd=s3cr",
        "auth: s3cr",
        "db_pass=s3cr",
        "DB-PASS: s3cr",
        "my.db_pass = 's3cr'",
        "dbPass=s3cr",
        "db_pass_2=s3cr",
        "pass1=s3cr",
        "RABBIT_PWD=s3cr",
        "basic_auth='s3cr'",
        "key_passphrase=s3cr",
    ],
)
def test_short_names_and_secrets_are_hidden(text: str) -> None:
    assert "s3cr" not in shown_line(text)


@pytest.mark.parametrize("name", ["db_pass", "dbPass", "DB_PWD", "passphrase", "http-auth"])
def test_values_under_short_secret_names_are_hidden(name: str) -> None:
    assert "s3cr" not in shown_payload({"login": {name: ["s3cr"]}})


@pytest.mark.parametrize(
    "text",
    ["author: somebody", "passed: 3", "bypass=1", "compass: north", "the basic idea", "passes=2", "by_passing=1"],
)
def test_words_that_begin_alike_are_shown(text: str) -> None:
    assert shown_line(text) == text
