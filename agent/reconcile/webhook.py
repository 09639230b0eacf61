"""One request to a web hook. What is said of a failure names the host and nothing else of the URL, which is a
secret; answers are not read, redirects not followed, proxies of the environment not used.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

import requests

import agent
from agent.model.outcome import PermanentError, RetryableError, UnreachableError
from agent.specs.webhooks import host_of

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 10.0
MIN_SECRET = 16


@dataclass(frozen=True, slots=True)
class Target:
    """Where to, resolved. repr shows neither the URL nor the secret."""

    url: str = field(repr=False)
    secret: bytes = field(repr=False, default=b"")
    ca: str | None = None


def post(target: Target, body: bytes, id_: str, now: float) -> None:
    """Returns when the receiver has taken it (2xx). Raises RetryableError, or PermanentError when something
    here is wrong."""
    host = host_of(target.url)
    try:
        with requests.Session() as session:
            session.trust_env = False
            with session.post(
                target.url,
                data=body,
                headers=_headers(target, body, id_, now),
                timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
                verify=target.ca or True,
                allow_redirects=False,
                stream=True,
            ) as response:
                status = response.status_code
    except requests.exceptions.SSLError:
        raise UnreachableError(f"{host}: its certificate is not trusted; see `webhook.ca`") from None
    except requests.Timeout:
        raise UnreachableError(f"{host} does not answer within {ANSWER_SECONDS:g} s") from None
    except requests.RequestException:
        raise UnreachableError(f"{host} cannot be reached") from None
    except (OSError, ValueError):  # requests looks for the file of certificates itself
        raise PermanentError(f"{host}: the request cannot be made; check `webhook.ca` and the URL") from None
    if 300 <= status < 400:
        raise RetryableError(f"{host} answers {status}, a redirect, which is not followed; name the new URL")
    if not 200 <= status < 300:
        raise RetryableError(f"{host} answers {status}")


def _headers(target: Target, body: bytes, id_: str, now: float) -> dict[str, str]:
    found = {
        "Content-Type": "application/json",
        "User-Agent": f"lanesync/{agent.__version__}",
        "Accept-Encoding": "identity",
        "X-LaneSync-Id": id_,
        "Idempotency-Key": id_,
    }
    if target.secret:
        timestamp = str(int(now))
        found["X-LaneSync-Timestamp"] = timestamp
        found["X-LaneSync-Signature"] = signature(target.secret, timestamp, body)
    return found


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Of the time of the attempt, a full stop, and the body."""
    signed = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={signed.hexdigest()}"
