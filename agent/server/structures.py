"""Documented structures of the API, made from what is stored and what is live.

Ids are decimal strings, times microseconds since 1970, rates kbit/s (null = no limit), sizes bytes. Fields
that the documents name for UDP keep their names; their TCP meaning is ours: `destinationPort` is the
receiver's TCP port, a "packet" is a frame.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from agent.server.clock import Clock, since_request
from agent.server.counters import BLOCK_SIZE, Counters, blocks
from agent.server.live import Link, RelayState
from agent.server.store.destinations import Connection, Destination
from agent.server.store.manifests import KIND_EMPTY_DIRECTORY, Entry, Manifest
from agent.server.store.transfers import Transfer

Structure = dict[str, Any]


def destination(row: Destination, link: Link, queued: int, user_data: dict[str, str]) -> Structure:
    defaults = row.defaults
    return {
        "destinationId": str(row.id),
        "connectionId": str(row.connection_id),
        "destinationAddress": row.address,
        "destinationPort": row.port,
        "destinationIP": row.ip,
        **_link(link),
        "numTransfersQueued": queued,
        "owner": row.owner,
        "ownerToken": row.owner_token,
        "ownerTokenSession": row.owner_session,
        "permittedDestinationPublicKey": row.public_key,
        "authenticateDestination": row.authenticate,
        "permanent": row.permanent,
        "priorityLanes": dict(row.lanes),
        "relayAddress": row.relay_address or None,
        "relayPort": row.relay_port or None,
        "senderPort": row.sender_port,
        "sendRateMax": row.rate_max,
        "transferDefaults": {
            "priority": defaults.priority,
            "transferFlags": defaults.flags,
            "checkpointFrequencySeconds": defaults.checkpoint_seconds or None,
            "sendRateMax": defaults.rate_max,
            "priorityLane": row.default_lane,
            "overwriteMode": defaults.overwrite,
            "minCipher": defaults.min_cipher,
            "fileTimeResolutionMicroseconds": defaults.time_resolution_us,
        },
        "userData": user_data,
    }


def connection(row: Connection, link: Link, queued: int, measured: float) -> Structure:
    """`measured`: kbit/s over the last second. With rate control that is what came of `sendRate`."""
    controlled = row.rate_control and link.state == "connected"
    return {
        "connectionId": str(row.id),
        "destinationIP": row.ip,
        "destinationPort": row.port,
        **_link(link),
        "numTransfersQueued": queued,
        "rateControllerActive": row.rate_control,
        "rateControlMethod": row.rate_method,
        "rateControlAlgorithm": (link.algorithm or None) if link.state == "connected" else None,
        "relayIP": link.relay_ip if row.relay_address else None,
        "relayPort": row.relay_port or None,
        "sendRate": measured if controlled else row.rate,
        "sendRateMax": row.rate_max,
        "sendRateMin": row.rate_min,
    }


def relay(state: RelayState | None) -> Structure | None:
    """The relay through which this server is reached, if any."""
    if state is None:
        return None
    return {
        "relayAddress": state.host,
        "relayPort": state.port,
        "registered": state.registered,
        "errorMessage": state.trouble,
    }


def _link(link: Link) -> Structure:
    return {
        "destinationPublicKey": link.public_key,
        "encryptedConnectionState": link.state,
        "encryptionEnabled": link.encrypted,
        "lastDestinationServerId": link.server_id,
        "lastDestinationServerUid": link.server_uid,
        "lastError": link.error or link.problem or None,
        "lastErrorMessage": link.error or link.problem,
        "lastReceiverDestinationId": link.answering_id,
        "lastRecvTime": link.last_recv_us,
        "lastSendTime": link.last_send_us,
    }


def manifest(row: Manifest, user_data: dict[str, str]) -> Structure:
    return {
        "manifestId": str(row.id),
        "status": row.status,
        "processing": row.processing,
        "totalFiles": row.total_files,
        "totalSize": row.total_size,
        "errorMessage": row.error,
        "owner": row.owner,
        "ownerToken": row.owner_token,
        "ownerTokenSession": row.owner_session,
        "userData": user_data,
    }


def file_mappings(entries: Iterable[Entry]) -> list[Structure]:
    return [
        {
            "destPath": entry.dest,
            "srcPath": entry.src,
            "fileSize": max(0, entry.size),
            "isEmptyDir": entry.kind == KIND_EMPTY_DIRECTORY,
            "executable": entry.executable,
            "modificationTime": entry.mtime_us,
        }
        for entry in entries
    ]


def _blocks_sent(counters: Counters) -> int:
    """With what did not have to cross the wire: holes, and content that the destination had already."""
    return blocks(max(counters.bytes_sent + counters.bytes_matched, counters.bytes_done))


def transfer(row: Transfer, counters: Counters, clock: Clock, user_data: dict[str, str]) -> Structure:
    return {
        "transferId": str(row.id),
        "destinationId": str(row.destination_id),
        "manifestId": str(row.manifest_id),
        "status": row.status,
        "processing": row.active,
        "errorMessage": row.error,
        "destinationPath": row.destination_path,
        "totalFiles": row.total_files,
        "totalBytes": row.total_size,
        "totalBlocks": blocks(row.total_size),
        "filesComplete": counters.files_done,
        "bytesSent": counters.bytes_sent,
        "bytesRecv": counters.bytes_recv,
        "bytesAcked": counters.bytes_done,
        "blockSize": BLOCK_SIZE,
        "blocksSent": _blocks_sent(counters),
        "blocksAcked": blocks(counters.bytes_done),
        "blocksRetransmitted": counters.blocks_resent,
        "packetsSent": counters.packets_sent,
        "packetsRecv": counters.packets_recv,
        "priority": row.priority,
        "priorityLane": row.lane,
        "sendRateMax": row.rate_max,
        "transferFlags": row.flags,
        "timeoutSeconds": row.timeout_seconds,
        "checkpointFrequencySeconds": row.checkpoint_seconds or None,
        "requestTime": row.request_us,
        "queueTime": row.queue_us,
        "startTime": row.start_us,
        "endTime": row.end_us,
        "snapshotTime": since_request(row.request_us, row.request_clock_us, clock),
        "owner": row.owner,
        "ownerToken": row.owner_token,
        "ownerTokenSession": row.owner_session,
        "userData": user_data,
    }


def join_destination(parent: str, path: str) -> str:
    """Full destination path of a manifest entry: `destinationPath` is the parent of all."""
    joined = os.path.normpath("/" + parent + "/" + path)
    return "/" + joined.lstrip("/")
