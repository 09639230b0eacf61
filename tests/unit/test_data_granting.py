"""Credentials of incoming transfers: who is asked, how often, and what the answers stand for."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.jetstream.constants import PERMISSION_DOWNLOAD, PERMISSION_MODIFY, PERMISSION_UPLOAD
from agent.server.data import granting
from agent.server.data.granting import (
    Answer,
    Authority,
    Credentials,
    Grant,
    Grants,
    RefusedError,
    parse_answer,
)
from agent.server.data.wire import WireError
from agent.server.sandboxes import Root, Roots

ROOTS = Roots((Root(b"/", b"/srv/anna"),))
ANNA = Credentials("anna", "secret")
NAMES = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)


class Control:
    """In the place of the control process: keeps what it is asked, answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.authority = Authority(self.asked.append)

    def answer(self, number: int = -1, **more: Any) -> None:
        message = {"op": "authorized", "number": self.asked[number]["number"]}
        granted = {"user": "anna", "permissions": 15, **ROOTS.as_json()}
        self.authority.answered({**message, **(more or granted)})


class Answers:
    """What was answered, and waiting for it."""

    def __init__(self) -> None:
        self.found: list[Answer] = []
        self._came = threading.Semaphore(0)

    def __call__(self, answer: Answer) -> None:
        self.found.append(answer)
        self._came.release()

    def wait(self) -> Answer:
        assert self._came.acquire(timeout=60)
        return self.found[-1]


def test_one_session_asks_once_for_the_same_credentials() -> None:
    """Also while the answer is on its way; another session asks again."""
    control, answers = Control(), Answers()
    grants = Grants(control.authority)
    for _ in range(5):
        grants.get(ANNA, "192.0.2.1", answers)
    assert len(control.asked) == 1 and not answers.found
    assert control.asked[0]["password"] == "secret" and control.asked[0]["peer"] == "192.0.2.1"
    control.answer()
    for _ in range(5):
        assert answers.wait() == Grant("anna", 15, ROOTS)
    grants.get(ANNA, "192.0.2.1", answers)
    assert answers.wait() and len(control.asked) == 1
    Grants(control.authority).get(ANNA, "192.0.2.1", answers)
    grants.get(Credentials("anna", "other"), "192.0.2.1", answers)
    assert len(control.asked) == 3


def test_a_refusal_is_not_remembered() -> None:
    control, answers = Control(), Answers()
    grants = Grants(control.authority)
    grants.get(ANNA, "", answers)
    control.answer(error="refused")
    assert isinstance(answers.wait(), RefusedError)
    grants.get(ANNA, "", answers)
    assert len(control.asked) == 2


def test_what_is_forgotten_is_asked_again_even_when_it_was_on_its_way() -> None:
    control, answers = Control(), Answers()
    grants = Grants(control.authority)
    grants.get(ANNA, "", answers)
    grants.forget()
    control.answer()
    answers.wait()
    grants.get(ANNA, "", answers)
    assert len(control.asked) == 2
    control.answer()
    answers.wait()
    grants.forget()
    grants.get(ANNA, "", answers)
    assert len(control.asked) == 3


def test_many_users_of_one_sender_wait_for_each_other() -> None:
    """A server that sends for many people brings all their credentials at once: all are judged in the end."""
    control, answers = Control(), Answers()
    grants = Grants(control.authority)
    many = granting.MAX_ASKED * 3
    for number in range(many):
        grants.get(Credentials("anna", str(number)), "", answers)
    assert len(control.asked) == granting.MAX_ASKED
    for number in range(many):
        control.answer(number)
        answers.wait()
    assert len(control.asked) == len(answers.found) == many


def test_a_session_that_is_over_asks_no_more() -> None:
    """Who still waited to be asked about is told, so that nothing is held for them."""
    control, answers = Control(), Answers()
    grants = Grants(control.authority)
    for number in range(granting.MAX_ASKED + 5):
        grants.get(Credentials("anna", str(number)), "", answers)
    grants.close()
    for _ in range(5):
        answers.wait()
    for number in range(granting.MAX_ASKED):
        control.answer(number)
        answers.wait()
    judged = [answer for answer in answers.found if isinstance(answer, granting.Grant)]
    assert len(control.asked) == len(judged) == granting.MAX_ASKED
    assert [str(answer) for answer in answers.found if answer not in judged] == ["the session is over"] * 5


def test_credentials_without_end_end_the_session() -> None:
    grants = Grants(Control().authority)
    for number in range(granting.MAX_ASKED + granting.MAX_QUEUED):
        grants.get(Credentials("anna", str(number)), "", Answers())
    with pytest.raises(WireError, match="different credentials"):
        grants.get(Credentials("anna", "one more"), "", Answers())


@pytest.mark.parametrize("frame", [{"user": 7}, {"password": ["x"]}, {"token": "x" * 5000}])
def test_credentials_that_make_no_sense_break_the_protocol(frame: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        Credentials.of(frame)


def test_secrets_are_not_in_what_is_printed() -> None:
    shown = repr(Credentials("anna", "secret", "token-value"))
    assert "anna" in shown and "secret" not in shown and "token-value" not in shown


@given(NAMES, NAMES, st.text("0123456789abcdef", min_size=32, max_size=32))
def test_unfinished_files_of_two_users_never_have_one_name(one: str, two: str, uid: str) -> None:
    """Whatever transfer a user names: it is never that of another one."""
    first, second = (Grant(user, 15, ROOTS).ident(uid) for user in (one, two))
    assert (first == second) == (one == two)
    assert len(first) == 32 and set(first) <= set("0123456789abcdef")


def test_permissions_are_asked_for_by_name() -> None:
    Grant("anna", PERMISSION_UPLOAD | PERMISSION_MODIFY, ROOTS).require(PERMISSION_MODIFY)
    with pytest.raises(RefusedError, match="PERMISSION_UPLOAD"):
        Grant("anna", PERMISSION_DOWNLOAD, ROOTS).require(PERMISSION_UPLOAD)


@pytest.mark.parametrize("message", [{}, {"user": "a"}, {"user": "a", "permissions": 1, "roots": 7}])
def test_a_malformed_answer_is_an_error(message: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        parse_answer(message)
