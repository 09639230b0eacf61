"""The client's methods are the documented ones: names, order and defaults of their parameters."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from agent.jetstream.interface import object_id
from agent.jetstream.recvinterface import RecvInterface
from agent.jetstream.sendinterface import SendInterface
from agent.jetstream.serverinterface import ServerInterface

DOCUMENTED = {
    "createDestination": "destinationAddress, sendRateMax=None, destinationPort=None, "
    "authenticateDestination=None, destinationPublicKey=None, relayAddress=None, relayPort=None, "
    "senderPort=None, exclusive=None, permanent=None",
    "createManifest": "fileMappings=None, mappings=None, symlinkOptions=None",
    "createSharedToken": "manifestId, password=None, downloadLimit=None, timeLimitSeconds=None, "
    "description=None",
    "createTransfer": "destinationId, manifestId, destinationPath=None, userName=None, password=None, "
    "priority=None, transferFlags=None, checkpointFrequencySeconds=None, sendRateMax=None, "
    "priorityLane=None, overwriteMode=None, minCipher=None, fileTimeResolutionMicroseconds=None, "
    "timeoutSeconds=None, userData=None, token=None, transferLog=False",
    "deleteDestination": "destinationId",
    "deleteManifest": "manifestId",
    "deleteObjectUserData": "objId, key",
    "deleteSharedToken": "token",
    "deleteTransfer": "transferId",
    "failTransfer": "transferId, errorMessage=None",
    "getConnection": "connectionId",
    "getConnections": "limit=0",
    "getDestination": "destinationId",
    "getDestinations": "limit=0",
    "getManifest": "manifestId",
    "getManifestFiles": "manifestId, limit=None",
    "getManifests": "before=None, after=None, limit=None",
    "getSharedToken": "token",
    "getSharedTokens": "limit=None",
    "getTransfer": "transferId, getCompleteFlags=None",
    "getTransfers": "destinationId=None, before=None, after=None, limit=None",
    "resumeTransferAsync": "transferId",
    "schedulePingAsync": "destinationId, pingCount",
    "setPriorityLanesAsync": "destinationId, priorityLanes",
    "setSendRateMaxAsync": "destinationId, sendRateMax",
    "setTransferPriorityAsync": "transferId, priority=None, priorityLane=None",
    "setTransferSendRateMaxAsync": "transferId, sendRateMax",
    "suspendTransferAsync": "transferId",
    "updateConnectionParamsAsync": "connectionId, sendRateMin=None, sendRateMax=None, sendRate=None, "
    "rateControlEnabled=None, rateControlMethod=None",
    "updateObjectUserData": "objId, key, value=None",
    "updateSharedToken": "token, timeLimitSeconds=None, description=None",
    "updateTransferDefaults": "destinationId, priority=None, transferFlags=None, "
    "checkpointFrequencySeconds=None, sendRateMax=None, priorityLane=None, overwriteMode=None, "
    "minCipher=None, fileTimeResolutionMicroseconds=None",
    "waitForManifest": "manifestId",
    "waitForTransfer": "transferId",
}


def shown(function: Any) -> str:
    """A signature as the documents print it."""
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    assert all(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters)
    return ", ".join(
        each.name if each.default is each.empty else f"{each.name}={each.default!r}" for each in parameters
    )


def test_all_documented_methods_are_in_the_table() -> None:
    """The documents list 34 methods; the client has no other but twins and two conveniences."""
    assert len(DOCUMENTED) == 34
    public = {name for name in dir(SendInterface) if not name.startswith("_") and name != "namespace"}
    twins = {name.removesuffix("Async") for name in DOCUMENTED if name.endswith("Async")}
    assert public == {*DOCUMENTED, *twins, "getRequestStatus", "getRequestResult"}


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_a_documented_method_has_its_documented_signature(name: str) -> None:
    """Scripts may pass by position or by name, and rely on defaults."""
    assert shown(getattr(SendInterface, name)) == DOCUMENTED[name]


@pytest.mark.parametrize("interface", [SendInterface, RecvInterface, ServerInterface])
def test_each_async_method_has_a_blocking_twin(interface: type) -> None:
    """The same call without Async exists with the same parameters."""
    names = [name for name in dir(interface) if name.endswith("Async")]
    assert names
    for name in names:
        assert shown(getattr(interface, name.removesuffix("Async"))) == shown(getattr(interface, name))


@pytest.mark.parametrize("kind", [dict, MappingProxyType])
def test_any_mapping_is_a_structure(kind: Any) -> None:
    """Ids are taken out of structures of whatever mapping type; the most specific one counts."""
    structure: Mapping[str, Any] = kind({"transferId": "7", "manifestId": "3", "destinationId": "2"})
    assert object_id(structure, "destinationId") == "2"
    assert object_id(structure, "objId") == "7"
    assert object_id("7", "objId") == "7" and object_id(7, "transferId") == 7
    with pytest.raises(TypeError, match="holds no connectionId"):
        object_id(structure, "connectionId")
