"""Two Syncthing devices on loopback that share a folder, one sends and one receives."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes

FOLDER = "bench"
DELAY_SECONDS = 1  # from a change to looking at it; 10 by default


@dataclass(frozen=True)
class _Device:
    """Its settings, and where it is reached."""

    home: Path
    ident: str
    port: int

    @classmethod
    def make(cls, home: Path, log: Path) -> _Device:
        processes.run(["syncthing", "generate", f"--home={home}", "--no-default-folder"], log)
        shown = subprocess.run(
            ["syncthing", f"--home={home}", "--device-id"], capture_output=True, text=True, check=True
        )
        found = re.search(r"[A-Z2-7]{7}(-[A-Z2-7]{7}){7}", shown.stdout)
        assert found, shown.stdout
        return cls(home, found[0], processes.free_port())

    def configure(self, other: _Device, folder: Path, kind: str) -> None:
        """It knows the other one alone, shares the folder with it, and asks nobody else on any network."""
        path = self.home / "config.xml"
        tree = ET.parse(path)
        root = tree.getroot()
        options = root.find("options")
        assert options is not None
        for name, value in _OPTIONS.items():
            _set(options, name, value)
        _set(options, "listenAddress", f"tcp://127.0.0.1:{self.port}")
        gui = root.find("gui")
        assert gui is not None
        _set(gui, "address", f"127.0.0.1:{processes.free_port()}")
        device = ET.SubElement(root, "device", {"id": other.ident, "name": "other"})
        ET.SubElement(device, "address").text = f"tcp://127.0.0.1:{other.port}"
        shared = ET.SubElement(
            root,
            "folder",
            {
                "id": FOLDER,
                "path": str(folder),
                "type": kind,
                "fsWatcherEnabled": "true",
                "fsWatcherDelayS": str(DELAY_SECONDS),
                "rescanIntervalS": "0",
            },
        )
        for ident in (self.ident, other.ident):
            ET.SubElement(shared, "device", {"id": ident})
        tree.write(path)


_OPTIONS = {
    "globalAnnounceEnabled": "false",
    "localAnnounceEnabled": "false",
    "relaysEnabled": "false",
    "natEnabled": "false",
    "startBrowser": "false",
    "urAccepted": "-1",
    "autoUpgradeIntervalH": "0",
    "crashReportingEnabled": "false",
    "reconnectionIntervalS": "1",
}


def _set(parent: ET.Element, name: str, value: str) -> None:
    found = parent.find(name)
    (ET.SubElement(parent, name) if found is None else found).text = value


@contextmanager
def pair(source: Path, copy: Path, log: Path) -> Iterator[None]:
    """For as long as the block lasts `copy` is kept like `source`."""
    work = log.with_suffix(".devices")
    work.mkdir()
    sender, receiver = (_Device.make(work / name, log) for name in ("sender", "receiver"))
    sender.configure(receiver, source, "sendonly")
    receiver.configure(sender, copy, "receiveonly")
    with ExitStack() as stack:
        for device in (receiver, sender):
            command = ["syncthing", "serve", f"--home={device.home}", "--no-browser", "--no-restart"]
            stack.enter_context(processes.running(["env", "STNOUPGRADE=1", *command], log))
        yield
