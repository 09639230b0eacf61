"""Constants of the JetStream API.

Values that the public documents give are theirs. Those which the documents name without a value are
chosen here, once, and marked "ours": they hold between this client and this server, and a vendor's server
may differ.
"""

from __future__ import annotations

API_VERSION = 40
"""Compatibility number of the documents this follows (2.9.2); a client refuses another one."""

BUILD_VERSION = (0, 1, 0)
DEFAULT_API_PORT = 8886
DEFAULT_RELAY_PORT = 8887  # documented
DEFAULT_SERVER_ADDRESS = "localhost"
DEFAULT_TIMEOUT_SECONDS = 10

# Manifest entries
FILETYPE_DIRECTORY = 2
FILETYPE_REGULAR_FILE = 4
FILETYPE_SYMLINK = 8  # ours: the link itself

# What protects a transfer on the wire, weakest first
MIN_CIPHER_NONE = 0
MIN_CIPHER_UNENCRYPTED = 1
MIN_CIPHER_ENCRYPTED_128 = 2
MIN_CIPHER_ENCRYPTED_256 = 3

# What happens to a file that exists at the destination
OVERWRITE_IN_PLACE_NEVER = 0
OVERWRITE_IN_PLACE_ALWAYS = 1
OVERWRITE_IN_PLACE_SAME_SIZE = 2
OVERWRITE_NEVER = 3
OVERWRITE_ALWAYS = 4
OVERWRITE_BACKUP = 5
OVERWRITE_WITH_PARTFILE_NEVER = OVERWRITE_NEVER  # the names until 2.3.0
OVERWRITE_WITH_PARTFILE_ALWAYS = OVERWRITE_ALWAYS
OVERWRITE_WITH_PARTFILE_BACKUP = OVERWRITE_BACKUP

# Symbolic links in a manifest (values ours)
SYMLINKS_COPY_CONTENTS = 0
SYMLINKS_IGNORE = 1

# What a transfer does at both ends (values ours, except NONE)
TRANSFER_FLAG_NONE = 0
TRANSFER_FLAG_READ = 1
TRANSFER_FLAG_WRITE = 2
TRANSFER_FLAG_WRITE_MTIME = 4
TRANSFER_FLAG_WRITE_ONLY_NEWER = 8
TRANSFER_FLAG_SKIP_VANISHED = 16  # ours: a source that is gone does not make the transfer fail
TRANSFER_FLAG_STRICT = 32  # ours: each file is on storage before it gets its name
TRANSFER_FLAG_SET = 64  # ours: no file gets its name before all are there; in the manifest's order then
TRANSFER_FLAG_EARLY = 128  # ours: it may begin while its manifest is still being made

# What an API token lets its holder do (values ours); a shared token has DOWNLOAD
PERMISSION_UPLOAD = 1  # send files to this server
PERMISSION_DOWNLOAD = 2  # have this server send files, and look at them
PERMISSION_MODIFY = 4  # delete, rename and make directories
PERMISSION_SHARE = 8  # make shared tokens
PERMISSIONS_ALL = 15

# Used where a call and the destination's transfer defaults say nothing (ours)
DEFAULT_PRIORITY = 100  # documented
DEFAULT_PRIORITY_LANE = "Normal"
DEFAULT_TRANSFER_FLAGS = TRANSFER_FLAG_READ | TRANSFER_FLAG_WRITE | TRANSFER_FLAG_WRITE_MTIME
DEFAULT_OVERWRITE_MODE = OVERWRITE_ALWAYS
DEFAULT_CHECKPOINT_FREQUENCY_SECONDS = 30
DEFAULT_FILE_TIME_RESOLUTION_MICROSECONDS = 0
DEFAULT_PRIORITY_LANES = {"High": 0.70, "Normal": 0.25, "Low": 0.05, "Idle": 0.0}  # documented

PRIORITY_MAX = 4_294_967_295
RATE_UNLIMITED = -1
"""`setTransferSendRateMaxAsync` documents -1 as "not throttled"; ours also for destinations."""

# How a connection finds out what the network carries (values ours)
RATE_CONTROL_BEST = 0  # BBR where there is one, and not within one machine; else the kernel's default
RATE_CONTROL_DEFAULT = 1
RATE_CONTROL_CUBIC = 2
RATE_CONTROL_BBR = 3

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Longest JSON-RPC line either side accepts (ours)."""

ERROR_PARSE = -32700
ERROR_INVALID_REQUEST = -32600
ERROR_METHOD_NOT_FOUND = -32601
ERROR_INVALID_PARAMS = -32602
ERROR_INTERNAL = -32603
# The codes below are ours: what a CommandError is about
ERROR_COMMAND = -32000
ERROR_NOT_FOUND = -32001
ERROR_NOT_SUPPORTED = -32002
ERROR_AUTHENTICATION = -32003
