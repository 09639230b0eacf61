"""What `lanesync serve` was asked to do."""

from __future__ import annotations

import ipaddress
import math
import socket
from dataclasses import dataclass
from pathlib import Path

from agent.jetstream import keys
from agent.jetstream.constants import (
    DEFAULT_API_PORT,
    DEFAULT_CHECKPOINT_FREQUENCY_SECONDS,
    MIN_CIPHER_ENCRYPTED_256,
    MIN_CIPHER_NONE,
    RATE_UNLIMITED,
)
from agent.server import reserve, sandboxes, transferlog, triggers
from agent.server.errors import CommandError, StartError
from agent.server.relay import protocol
from agent.server.relay.way import parse_way

DEFAULT_LISTEN = f"127.0.0.1:{DEFAULT_API_PORT}"
DEFAULT_STREAMS = 2


@dataclass(frozen=True, slots=True)
class ServeOptions:
    state_dir: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_API_PORT  # 0 = any free one
    receive_root: Path | None = None  # None = STATE/received
    accounts: Path | None = None
    control_token_file: Path | None = None
    parent_pipe_fd: int | None = None  # the server ends when this reaches end of file
    lock_fd: int | None = None  # held as long as the server or a worker of it lives
    ready_fd: int | None = None
    address_file: Path | None = None
    allow_remote_control: bool = False
    checkpoint_seconds: int = DEFAULT_CHECKPOINT_FREQUENCY_SECONDS
    streams: int = DEFAULT_STREAMS  # data connections per destination
    server_name: str = "LaneSync"
    external_address: str = ""  # HOST:PORT for links
    superusers: tuple[str, ...] = ()
    sandbox_dir: str | None = None  # may hold %u (user) and %% (percent)
    min_cipher: int | None = None  # None = 0 on loopback, 3 elsewhere
    authorized_clients: tuple[str, ...] = ()  # public keys of senders, beside those added by the API
    only_authorized_clients: bool = False
    recv_relay: str = ""  # HOST:PORT of a relay to be reached through
    recv_relay_key: str = ""  # its public key
    trigger_dir: Path | None = None
    log_transfer_dir: Path | None = None
    incoming_rate_limit: float | None = None  # kbit/s; given here it is fixed for the process's life
    outgoing_rate_limit: float | None = None
    borrow_incoming_rate: bool = False
    borrow_outgoing_rate: bool = False
    reserve: str | None = None  # size or percentage; None = a hundredth, 1 GiB at most
    disable_shared_tokens: bool = False
    disable_api_tokens: bool = False

    @property
    def loopback(self) -> bool:
        """Whether other hosts cannot connect."""
        return is_loopback(self.host)

    @property
    def least_cipher(self) -> int:
        """minCipher of the server: the least for what it sends and receives."""
        if self.min_cipher is not None:
            return self.min_cipher
        return MIN_CIPHER_NONE if self.loopback else MIN_CIPHER_ENCRYPTED_256

    @property
    def receive_directory(self) -> Path:
        return self.receive_root or self.state_dir / "received"


def is_loopback(address: str) -> bool:
    """Whether a numeric address is this machine's own. ValueError when it is not numeric."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def parse_listen(text: str) -> tuple[str, int]:
    """`HOST:PORT` -> (numeric address, port). StartError when it is malformed or not of this machine."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise StartError(f"--listen {text!r} is not HOST:PORT; write for example {DEFAULT_LISTEN}")
    host = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", int(port), type=socket.SOCK_STREAM)  # noqa: S104
    except OSError as error:
        raise StartError(
            f"--listen {text!r}: {host!r} is not an address of this machine ({error})"
        ) from error
    numeric = min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0]
    return str(numeric), int(port)


def _check_sandboxes(template: str) -> None:
    try:
        sandboxes.check_template(template, "--sandbox-dir")
    except CommandError as error:
        raise StartError(str(error)) from None


def check(options: ServeOptions) -> None:
    """StartError for what this version refuses."""
    if options.sandbox_dir is not None:
        _check_sandboxes(options.sandbox_dir)
    if options.external_address:
        _check_address(options.external_address)
    if options.recv_relay:
        parse_way(options.recv_relay, options.recv_relay_key)
        if options.accounts is None and not options.only_authorized_clients:
            raise StartError(
                "--recv-relay opens this server to all who reach the relay; say who may send to it, with "
                "--accounts FILE or --only-authorized-clients"
            )
    elif options.recv_relay_key:
        raise StartError("--recv-relay-key needs --recv-relay")
    if options.trigger_dir is not None:
        triggers.check(options.trigger_dir)
    if options.log_transfer_dir is not None:
        transferlog.prepare(options.log_transfer_dir)
    _check_rates(options)
    if options.reserve is not None:
        _check_reserve(options.reserve)
    for key in options.authorized_clients:
        try:
            keys.normalise(key)
        except ValueError as error:
            raise StartError(f"--authorized-client {key[:60]!r} is not {error}") from None
    if options.allow_remote_control and options.accounts is None:
        raise StartError(
            "--allow-remote-control needs --accounts FILE: others have to log in; "
            "lanesync user add NAME --accounts FILE makes it"
        )
    if not options.loopback and options.accounts is None and not options.only_authorized_clients:
        raise StartError(
            f"listening on {options.host} lets every host that reaches it write files here; say who may: "
            "--accounts FILE (lanesync user add NAME --accounts FILE makes it), or --only-authorized-clients "
            "with --authorized-client KEY of each sender; or listen on 127.0.0.1"
        )


def _check_address(written: str) -> None:
    try:
        protocol.parse_address(written)
    except ValueError as error:
        raise StartError(f"--external-address: {error}; write for example files.example.org:8886") from error


def _check_reserve(written: str) -> None:
    try:
        reserve.parse(written)
    except ValueError as error:
        raise StartError(f"--reserve {error}") from None


def _check_rates(options: ServeOptions) -> None:
    for name in ("incoming_rate_limit", "outgoing_rate_limit"):
        rate = getattr(options, name)
        if rate is not None and rate != RATE_UNLIMITED and not 0 < rate < math.inf:
            option = name.replace("_", "-")
            raise StartError(f"--{option} is a rate in kbit/s above 0, or -1 for none; {rate:g} is neither")
