"""`python -m fts3_double --folder F --pki P`: serve until SIGTERM; ports go to the ready pipe as JSON."""

from __future__ import annotations

import argparse
import json
import os
import signal
import ssl
from pathlib import Path

from .admin import Admin
from .app import App
from .database import Database
from .engine import Engine
from .faults import Faults
from .front import Front
from .identity import Identities
from .pki import HOST_DN, Authority
from .routes import Dispatcher
from .settings import add_options, from_options

ENDS = (signal.SIGTERM, signal.SIGINT)


def tls_context(pki: Path, *, require_certificate: bool = False) -> ssl.SSLContext:
    """A server context that asks for certificates of the test authority and takes proxies of them."""
    authority = Authority(pki)
    host = authority.host()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(host.cert, host.key)
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED if require_certificate else ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_ALLOW_PROXY_CERTS
    return context


def report(ready_fd: int, **ports: int) -> None:
    with os.fdopen(ready_fd, "w") as pipe:
        pipe.write(json.dumps(ports) + "\n")


def hold_back_the_end() -> None:
    """Before the first thread: a signal that comes early waits for `wait_for_end`.

    A handler that sets an Event would hang when it interrupts the wait for that Event, which holds its lock.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)


def wait_for_end() -> None:
    signal.sigwait(ENDS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="fts3_double", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--pki", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--admin-port", type=int, default=0)
    parser.add_argument("--ready-fd", type=int, default=1)
    add_options(parser)
    options = parser.parse_args()
    hold_back_the_end()
    options.folder.mkdir(parents=True, exist_ok=True)
    database, faults, settings = Database(options.folder / "fts3.db"), Faults(), from_options(options)
    identities = Identities(options.pki / "identities.json", database, HOST_DN)
    app = App(database, settings, faults, identities, str(options.pki / "ca.pem"))
    front = Front(
        ("127.0.0.1", options.port),
        Dispatcher(app),
        tls=tls_context(options.pki),
        faults=faults,
        clock_skew=lambda: settings.clock_skew,
        idle_seconds=lambda: settings.idle_seconds,
    )
    admin = Front(("127.0.0.1", options.admin_port), Admin(app, front))
    engine = Engine(app)
    engine.start()
    front.start()
    admin.start()
    report(options.ready_fd, port=front.port, admin=admin.port)
    wait_for_end()
    engine.stop()
    database.close()


if __name__ == "__main__":
    main()
