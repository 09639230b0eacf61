"""What begins the text of an error that a client can tell by it, where the documents have no code (ours)."""

NO_SPACE = "the destination reports: its storage is full"
"""`lastErrorMessage` of a destination: nothing is wrong with the connection, and all goes on by itself."""


def is_no_space(error: str) -> bool:
    return error.startswith(NO_SPACE)
