"""Values that differ from this project's own, which the documents leave open."""

TRANSFER_FLAG_NONE = 0
TRANSFER_FLAG_READ = 16
TRANSFER_FLAG_WRITE = 32
TRANSFER_FLAG_WRITE_MTIME = 64
TRANSFER_FLAG_WRITE_ONLY_NEWER = 128
