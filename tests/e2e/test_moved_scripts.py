"""Scripts in the words of the public documents: with the name of the package changed they run as they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Server, start_server

from agent.jetstream import APIInterface, Jetstream, constants
from agent.jetstream.recvinterface import RecvInterface
from agent.jetstream.sendinterface import SendInterface
from agent.jetstream.serverinterface import ServerInterface

pytestmark = pytest.mark.e2e

SENDING = """
import sys
from time import sleep
from jetstream import Jetstream
from jetstream.constants import SYMLINKS_IGNORE

class MyError(Exception):
    pass

serverAddress = 'localhost'
serverPort = int(sys.argv[1])
api = Jetstream().api(serverAddress, serverPort)
api.connect()

mappings = {'/data/docs/readme.txt': sys.argv[2] + '/readme.txt'}
manifest = api.send.createManifest(mappings=mappings)
manifest = api.send.getManifest(manifest)
while manifest['processing']:
    status = manifest['status']
    sleep(1)
    manifest = api.send.getManifest(manifest)
manifest = api.send.waitForManifest(manifest)
if manifest['status'] == 'error':
    raise MyError('The manifest failed, because {reason}'.format(reason=manifest['errorMessage']))

destinationAddress = 'localhost'
destinationPort = serverPort
destination = api.send.createDestination(destinationAddress, destinationPort=destinationPort)
transfer = api.send.createTransfer(destination, manifest)
transfer = api.send.getTransfer(transfer)
while transfer['processing']:
    status = transfer['status']
    sleep(1)
    transfer = api.send.getTransfer(transfer)
transfer = api.send.waitForTransfer(transfer)
if transfer['status'] == 'error':
    raise MyError('The transfer failed, because {reason}'.format(reason=transfer['errorMessage']))
if transfer['status'] == 'suspended':
    print('The transfer has been paused.')

source = sys.argv[2]
sender = api.send
sender.createDestination(destinationAddress='receiver01')
createManifest = sender.createManifest
for made in (
    createManifest(mappings={'/storage/destinationFile.txt': {'src': '/sourceFile.txt', 'size': 100}}),
    createManifest(mappings={'/project/data/destinationEmptyDir': {'src': '/emptyDir'}}),
    createManifest(
        mappings={
            '/path/to/destination': {'src': source, 'exclude': ['*.png', '*.PNG'], 'include': ['*.mp3']}
        }
    ),
    createManifest(mappings={'/project/': source + '/'}, symlinkOptions=SYMLINKS_IGNORE),
):
    made = sender.waitForManifest(made)
    files = sender.getManifestFiles(made)['fileMappings']
    print(made['status'], made['totalFiles'], made['totalSize'], *sorted(f['destPath'] for f in files))
api.disconnect()
"""

REQUESTS = """
import sys
import jetstream
from jetstream import JetStream
from jetstream import constants

with JetStream().api(constants.DEFAULT_SERVER_ADDRESS, int(sys.argv[1])) as api:
    assert jetstream.constants.DEFAULT_API_PORT == 8886
    send = api.send
    manifest = send.waitForManifest(send.createManifest(mappings={'/project/large': sys.argv[2] + '/large'}))
    destination = send.createDestination('localhost', 1000, int(sys.argv[1]), exclusive=True)
    transfer = send.createTransfer(destination, manifest, transferFlags=constants.TRANSFER_FLAG_NONE)
    api.server.sleep(100)
    request = send.suspendTransferAsync(transfer)
    status = send.getRequestStatus(request)
    result = send.getRequestResult(request)
    print(send.getRequestStatus(request)['status'], send.getTransfer(result)['status'])
    request = send.resumeTransferAsync(transfer)
    result = send.getRequestResult(request)
    print(result['transferId'] == transfer['transferId'])
    request = send.setSendRateMaxAsync(destination, sendRateMax=750000)
    print(send.getRequestResult(request))
    transfer = send.waitForTransfer(transfer)
    print(transfer['status'])
    try:
        send.resumeTransferAsync('4242')
    except jetstream.CommandError as error:
        print(error)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with start_server(tmp_path / "server") as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "readme.txt").write_bytes(b"r" * 1091)
    (folder / "song.mp3").write_bytes(b"m" * 10)
    (folder / "cover.PNG").write_bytes(b"p" * 5)
    (folder / "large").write_bytes(b"l" * 2_000_000)
    (folder / "link").symlink_to("readme.txt")
    return folder


def run(script: str, server: Server, source: Path) -> list[str]:
    """Its output, with `jetstream` taken from here."""
    moved = script.replace("from jetstream", "from agent.jetstream")
    moved = moved.replace("import jetstream", "import agent.jetstream as jetstream")
    command = [sys.executable, "-c", moved, str(server.port), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_script_that_sends_and_waits_in_loops(server: Server, source: Path) -> None:
    """Manifest, destination, transfer and both ways of waiting; all forms of mappings."""
    assert run(SENDING, server, source) == [
        "complete 1 100 /storage/destinationFile.txt",
        "complete 1 0 /project/data/destinationEmptyDir",
        "complete 1 10 /path/to/destination/song.mp3",
        "complete 4 2001106 /project/cover.PNG /project/large /project/readme.txt /project/song.mp3",
    ]
    assert (server.receive_root / "data/docs/readme.txt").read_bytes() == b"r" * 1091


def test_a_script_that_follows_requests(server: Server, source: Path) -> None:
    """Status and result of requests, positional parameters, constants, errors."""
    assert run(REQUESTS, server, source) == [
        "complete suspended",
        "True",
        "{'sendRateMax': 750000.0}",
        "complete",
        "transfer 4242 was not found",
    ]


@pytest.mark.parametrize("interface", [SendInterface, ServerInterface, RecvInterface])
def test_interfaces_are_where_and_made_as_the_documents_say(server: Server, interface: type) -> None:
    """Module and class names, and a constructor of three; what it makes is what the API hands out."""
    assert interface.__module__ == f"agent.jetstream.{interface.__name__.lower()}"
    with server.api() as api:
        made = interface(api, None, None)
        if isinstance(made, SendInterface):
            assert made.getTransfers() == [] and type(api.send) is interface
        elif isinstance(made, ServerInterface):
            assert made.echo("hello") == "hello" and type(api.server) is interface
        else:
            assert made.getTransfers() == [] and type(api.recv) is interface


def test_the_defaults_of_a_connection_are_the_documented_ones() -> None:
    """localhost, 8886 and ten seconds."""
    api = Jetstream().api()
    assert isinstance(api, APIInterface)
    assert (api.host, api.port, api.timeout) == ("localhost", 8886, 10)
    assert (constants.DEFAULT_SERVER_ADDRESS, constants.DEFAULT_API_PORT) == ("localhost", 8886)
    assert constants.DEFAULT_TIMEOUT_SECONDS == 10
