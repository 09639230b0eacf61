"""Which URLs a web hook may have, in every spelling that could mean another place."""

from __future__ import annotations

import pytest

from agent.specs.webhooks import parse_webhook, webhook_problem

RULES = [parse_webhook("https://hooks.example.org/*"), parse_webhook("https://one.example.org/a/b")]


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org/T0/B1?token=x",
        "https://HOOKS.example.org./T0",
        "https://hooks.example.org:443/T0",
        "https://one.example.org/a/b",
        "https://one.example.org/a/b?x=http://evil.example/",
    ],
)
def test_what_a_rule_covers(url: str) -> None:
    assert webhook_problem(url, RULES) == ""


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org.evil.example/T0",
        "https://evil.example/hooks.example.org/",
        "https://evil.example/?https://hooks.example.org/",
        "https://evil.example#hooks.example.org/",
        "https://evil.example\\@hooks.example.org/",
        "https://hooks.example.org@evil.example/",
        "https://hooks.example.org:x@evil.example/",
        "https://evil.example@hooks.example.org/",
        "https://hooks.example.org:8443/T0",
        "http://hooks.example.org/T0",
        "https://one.example.org/a/b/c",
        "https://one.example.org/a/b/../c",
        "https://one.example.org/a",
        "https://one.example.org/a/%2e%2e/b",
        "https://one.example.org/a/b/%252e%252e/c",
        "https://hooks.example.org/T0\r\nHost: evil.example",
        "https://hooks.example.org/T0 x",
        "//hooks.example.org/T0",
        "file:///etc/passwd",
        "gopher://hooks.example.org/T0",
        "hooks.example.org/T0",
        "",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/T0",
        "https://[::ffff:127.0.0.1]/T0",
        "http://127.0.0.1:8890/api/v1/reconcile",
        "https://hooks.example.org%00.evil.example/",
        "https://hooks。example。org/T0",
    ],
)
def test_what_no_rule_covers(url: str) -> None:
    """Names, addresses, ports, schemes, users, dots, odd characters."""
    assert webhook_problem(url, RULES)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://any.example/x", True),
        ("https://10.0.0.1/x", True),
        ("http://any.example/x", False),
        ("http://10.0.0.1/x", False),
        ("http://127.0.0.1:1/x", True),
        ("http://127.8.9.10/x", True),
        ("http://localhost/x", True),
        ("http://[::1]:1/x", True),
        ("http://[::ffff:127.0.0.1]/x", True),
        ("http://[::ffff:10.0.0.1]/x", False),
        ("http://localhost.evil.example/x", False),
        ("http://127.1/x", False),
        ("http://2130706433/x", False),
        ("http://0x7f000001/x", False),
        ("http://0177.0.0.1/x", False),
        ("https://0x0a000001/x", False),
    ],
)
def test_without_a_policy_plain_http_is_for_the_loopback_address(url: str, allowed: bool) -> None:
    assert (webhook_problem(url, None) == "") is allowed


def test_a_refusal_names_the_host_alone() -> None:
    """The rest of the URL is a secret."""
    said = webhook_problem("https://evil.example/T0PSECRET?token=S3CRET", RULES)
    assert "https://evil.example" in said
    assert "SECRET" not in said
    assert "S3CRET" not in said


@pytest.mark.parametrize(
    "text",
    [
        "https://*.example.org/*",
        "https://h.example/*/x",
        "https://user@h.example/*",
        "http://h.example/*",
        "https://h.example/../*",
        "https://0x7f000001/*",
        "https://h.example/?x=*",
        "ftp://h.example/*",
    ],
)
def test_a_rule_that_says_something_unclear_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|host"):
        parse_webhook(text)
