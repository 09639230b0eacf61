"""What stands in an ASC Media Hash List, and which paths belong to one."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.spec import MappingSpec, PathMapping, Receipt
from agent.planning.receipts import (
    C4,
    Creator,
    Delivered,
    Generation,
    can_be_listed,
    chain,
    folders,
    is_receipt,
    manifest,
    manifest_name,
    mapping_name,
    owner_name,
)

HASHES, CHAIN = "{urn:ASC:MHL:v2.0}", "{urn:ASC:MHL:DIRECTORY:v2.0}"
CREATOR = Creator("host", "1", 1_789_000_000.5)


def mapping(receipt: Receipt) -> MappingSpec:
    paths = (PathMapping("/dailies", "/a"), PathMapping("/stills", "/b"))
    return MappingSpec("m", ("d",), paths, "/paris", receipt=receipt)


@pytest.mark.parametrize(
    ("data", "identity"),
    [
        (b"", "c459dsjfscH38cYeXXYogktxf4Cd9ibshE3BHUo6a58hBXmRQdZrAkZzsWcbWtDg5oQstpDuni4Hirj75GEmTc1sFT"),
        (b"a", "c41dF3bGD8iqVcrJJQpS6fEsVgg9iKeNHGCCEhK2C2cGYRm2dx8xeFU1wKbkBsCWdefaz82KeyfbBf8Pfkpm4C56cc"),
    ],
)
def test_c4_identities_are_as_the_standard_has_them(data: bytes, identity: str) -> None:
    made = C4()
    made.update(data)
    assert made.text() == identity


@given(st.text(min_size=1).filter(can_be_listed), st.integers(0, 2**60), st.integers(-(2**60), 2**62))
def test_any_name_that_xml_can_write_is_read_back_as_it_is(path: str, size: int, mtime_ns: int) -> None:
    """Ampersands, tags, quotes, line breaks, other alphabets."""
    text = "".join(manifest([Delivered(path, size, mtime_ns, "0" * 16, 1.0)], CREATOR))
    [found] = ET.fromstring(text.encode()).iter(HASHES + "path")
    assert (found.text, found.get("size")) == (path, str(size))


@pytest.mark.parametrize("path", ["a\x00b", "a\x1bb", "\udcff", "\ufffe"])
def test_what_xml_cannot_write_is_not_listed(path: str) -> None:
    assert not can_be_listed(path)


def test_the_chain_names_every_generation() -> None:
    generations = [Generation(n, manifest_name(n, "m", 1e9), f"c4{n}") for n in (1, 2, 12345)]
    root = ET.fromstring(chain(generations).encode())
    found = [(g.get("sequencenr"), g[0].text, g[1].text) for g in root.iter(CHAIN + "hashlist")]
    assert found[0] == ("1", "0001_m_2001-09-09_014640Z.mhl", "c41")
    assert [entry[0] for entry in found] == ["1", "2", "12345"]
    assert found[2][1] == "12345_m_2001-09-09_014640Z.mhl"


def test_content_that_replaced_another_is_not_called_original() -> None:
    files = [Delivered("a", 1, 0, "0" * 16, 1.0), Delivered("b", 1, 0, "1" * 16, 1.0, before="0" * 16)]
    root = ET.fromstring("".join(manifest(files, CREATOR)).encode())
    assert [h.get("action") for h in root.iter(HASHES + "xxh3")] == ["original", "failed"]


def test_each_entry_has_its_history_and_nothing_else_belongs_to_one() -> None:
    wanted = mapping(Receipt.ASC_MHL)
    assert folders(wanted) == ("/paris/dailies/ascmhl", "/paris/stills/ascmhl")
    assert is_receipt(wanted, "/paris/stills/ascmhl/0001_m.mhl")
    assert not is_receipt(wanted, "/paris/ascmhl/0001_m.mhl")
    assert not is_receipt(wanted, "/paris/stills/ascmhl2")
    assert folders(mapping(Receipt.NONE)) == ()


def test_receipts_go_under_a_name_that_no_mapping_has() -> None:
    assert mapping_name(owner_name("dailies")) == "dailies" == mapping_name("dailies")
    assert "." in owner_name("dailies")  # which names of objects cannot have
