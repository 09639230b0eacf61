"""Who came to the one port, told by the first bytes. Pure.

`{`, `[` or white space   a client of the API
`LSDATA/1` and a newline  another server's data session
`LSFIND/1` and a newline  a server that asks from which address it is seen
a TLS ClientHello         by its ALPN either a data session or a client of the API
"""

from __future__ import annotations

import enum

from agent.server import clienthello
from agent.server.clienthello import ClientHelloError

DATA_PREAMBLE = b"LSDATA/1\n"
DISCOVER_PREAMBLE = b"LSFIND/1\n"
DATA_PROTOCOL = b"lanesync-data/1"  # ALPN
_API = b"{[ \t\r\n"


class Caller(enum.Enum):
    API = enum.auto()
    API_TLS = enum.auto()
    DATA = enum.auto()
    DATA_TLS = enum.auto()
    DISCOVER = enum.auto()
    STRANGER = enum.auto()
    BAD_TLS = enum.auto()  # as it begins, but not as it goes on
    NOBODY = enum.auto()  # left, or said nothing for too long


_PREAMBLES = {DATA_PREAMBLE: Caller.DATA, DISCOVER_PREAMBLE: Caller.DISCOVER}


def recognise(first: bytes) -> Caller | int:
    """Who begins a connection with these bytes, or how many of its bytes are needed at least to tell."""
    if not first:
        return 1
    if first[0] == clienthello.HANDSHAKE:
        return _tls(first)
    for preamble, caller in _PREAMBLES.items():
        if first.startswith(preamble):
            return caller
        if preamble.startswith(first):
            return len(preamble)
    return Caller.API if first[0] in _API else Caller.STRANGER


def cut_short(first: bytes) -> Caller:
    """Who it was that said no more than this, though more was needed."""
    if not first:
        return Caller.NOBODY
    return Caller.BAD_TLS if first[0] == clienthello.HANDSHAKE else Caller.STRANGER


def _tls(first: bytes) -> Caller | int:
    try:
        hello = clienthello.parse(first)
    except ClientHelloError:
        return Caller.BAD_TLS
    if isinstance(hello, int):
        return hello
    return Caller.DATA_TLS if DATA_PROTOCOL in hello.protocols else Caller.API_TLS
