"""Secrets: found where a reference says, and never told."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.model.outcome import PermanentError
from agent.model.spec import SecretRef, SecretSource
from agent.specs.load import load
from agent.specs.secrets import resolve

SECRET = "hunter2-Tr0ub4dor"


def test_references_are_resolved(tmp_path: Path) -> None:
    """Environment, file and systemd credential give the secret without its final newline."""
    (tmp_path / "password").write_text(f"{SECRET}\n")
    assert resolve(SecretRef(SecretSource.ENV, "PW"), {"PW": SECRET}, None) == SECRET
    assert resolve(SecretRef(SecretSource.FILE, str(tmp_path / "password")), {}, None) == SECRET
    assert resolve(SecretRef(SecretSource.CREDENTIAL, "password"), {}, str(tmp_path)) == SECRET


def test_only_one_newline_is_not_part_of_it(tmp_path: Path) -> None:
    """Blanks and further newlines belong to the secret."""
    (tmp_path / "p").write_text(f" {SECRET} \n\n")
    assert resolve(SecretRef(SecretSource.FILE, str(tmp_path / "p")), {}, None) == f" {SECRET} \n"


@pytest.mark.parametrize(
    ("source", "name", "content", "expected"),
    [
        (SecretSource.ENV, "PW", None, "no variable PW"),
        (SecretSource.FILE, "/no/such/file", None, "cannot read /no/such/file: No such file"),
        (SecretSource.FILE, "/", None, "{file: /}"),
        (SecretSource.CREDENTIAL, "p", b"", "is empty"),
        (SecretSource.CREDENTIAL, "p", SECRET.encode() * 10_000, "larger than 64 KiB"),
        (SecretSource.CREDENTIAL, "p", SECRET.encode() + b"\xff", "is not UTF-8 text"),
        (SecretSource.CREDENTIAL, "../p", b"x", "not the name of a credential"),
    ],
)
def test_errors_name_the_reference_and_never_the_value(
    tmp_path: Path, source: SecretSource, name: str, content: bytes | None, expected: str
) -> None:
    """The person learns what was tried; a log never learns the secret."""
    if content is not None:
        (tmp_path / "p").write_bytes(content)
    with pytest.raises(PermanentError) as caught:
        resolve(SecretRef(source, name), {}, str(tmp_path))
    assert expected in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_without_credentials_the_unit_is_named() -> None:
    """A credential outside systemd says which line is missing."""
    with pytest.raises(PermanentError, match="LoadCredential=pw:"):
        resolve(SecretRef(SecretSource.CREDENTIAL, "pw"), {}, None)


@pytest.mark.parametrize(
    "auth",
    [
        "{userName: u, password: SECRET}",
        "{userName: u, password: [SECRET]}",
        "{userName: u, password: {value: SECRET}}",
        "{userName: u, password: {SECRET}}",
        "{userName: u, password: {env: SECRET SECRET}}",
        "{userName: u, password: {env: A, file: SECRET}}",
        "{userName: u, password: {file: SECRET}}",
        "{userName: u, password: *SECRET}",
        "{userName: u, password: !SECRET x}",
        "{userName: u, password: &SECRET SECRET}",
        "{userName: u, password: {{ SECRET }}}",
        "{userName: u, password: %SECRET}",
        "{userName: u, password: 'SECRET}",
        "{userName: u, password: x, SECRET: 1, SECRET: 2}",
        "{userName: u, passwd: SECRET}",
        "{token: SECRET}",
        "SECRET",
        "[SECRET]",
        "u:SECRET",
        "{userName: u, password: {command: [SECRET]}}",
    ],
)
def test_a_literal_secret_is_refused_and_never_echoed(tmp_path: Path, auth: str) -> None:
    """Whatever way a secret was written into a spec, no message repeats it."""
    text = "apiVersion: lanesync/v1\nkind: Server\nmetadata: {name: s}\n"
    text += f"spec: {{engine: jetstream, address: x, auth: {auth.replace('SECRET', SECRET)}}}\n"
    (tmp_path / "a.yaml").write_text(text)
    loaded = load([str(tmp_path)])
    assert loaded.errors
    told = [*loaded.errors, *loaded.warnings, *(e for found in loaded.invalid.values() for e in found)]
    assert not [str(error) for error in told if SECRET in str(error) or SECRET in repr(error)]


def test_a_literal_password_is_told_what_to_write(tmp_path: Path) -> None:
    """The error shows the three kinds of reference."""
    text = "apiVersion: lanesync/v1\nkind: Server\nmetadata: {name: s}\n"
    text += f"spec: {{engine: jetstream, address: x, auth: {{userName: u, password: {SECRET}}}}}\n"
    (tmp_path / "a.yaml").write_text(text)
    (error,) = load([str(tmp_path)]).errors
    assert error.path == "spec.auth.password"
    assert "{env: NAME}, {file: /PATH} or {credential: NAME}" in error.message


@pytest.mark.parametrize(
    "text",
    [
        "kind: Destination\nmetadata: {name: a}\nspec: {server: g, url: 'davs://user:SECRET@h/x'}\n",
        "kind: Server\nmetadata: {name: g}\nspec: {engine: fts3, endpoint: 'https://h',"
        " auth: {token: {env: X}}, storage: [{path: /a, url: 'davs://u:SECRET@h:443/x'}]}\n",
        "kind: Server\nmetadata: {name: g}\nspec: {engine: fts3, endpoint: 'https://u:SECRET@h', storage:"
        " [{path: /a, url: 'root://h//x'}], auth: {token: {env: X}}}\n",
    ],
)
def test_a_url_with_a_password_is_refused_and_not_echoed(tmp_path: Path, text: str) -> None:
    """Addresses are in every plan, status and log."""
    (tmp_path / "a.yaml").write_text("apiVersion: lanesync/v1\n" + text)
    shown = [str(error) for error in load([str(tmp_path)]).errors]
    assert any(
        "rl: must be a URL without a password" in line or "without user name" in line for line in shown
    )
    assert "SECRET" not in "".join(shown)


def test_a_url_with_a_user_alone_is_taken(tmp_path: Path) -> None:
    """XRootD names its accounts so."""
    text = "apiVersion: lanesync/v1\nkind: Destination\nmetadata: {name: a}\nspec: {url: 'root://me@h:1094//x:y@z'}\n"
    (tmp_path / "a.yaml").write_text(text)
    assert not any("password" in str(error) for error in load([str(tmp_path)]).errors)
