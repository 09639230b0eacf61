"""Errors of the service, in its own shapes."""

from __future__ import annotations

import json
from typing import Any

from .front import REASONS, Answer

NOT_FOUND = (
    "The requested URL was not found on the server. If you entered the URL manually please check your"
    " spelling and try again."
)
WRONG_METHOD = "The method is not allowed for the requested URL."
INTERNAL = (
    "The server encountered an internal error and was unable to complete your request. Either the server is"
    " overloaded or there is an error in the application."
)


def status_line(status: int) -> str:
    return f"{status} {'Authentication Timeout' if status == 419 else REASONS.get(status, 'Unknown')}"


class ServiceError(Exception):
    """Ends a request with an error status and a message in JSON."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    def answer(self) -> Answer:
        body = {"status": status_line(self.status), "message": self.message}
        return Answer(self.status, json.dumps(body).encode())

    def of_job(self, job_id: str) -> dict[str, Any]:
        """The same as an entry about a job, which has other keys."""
        return {"job_id": job_id, "http_status": status_line(self.status), "http_message": self.message}


def bad_request(message: str) -> ServiceError:
    return ServiceError(400, message)


def forbidden(message: str) -> ServiceError:
    return ServiceError(403, message)
