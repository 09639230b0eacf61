"""What is in the text of an error by which a client tells it, where the documents have no code (ours)."""

NO_SPACE = "the destination reports: its storage is full"
"""`lastErrorMessage` of a destination: nothing is wrong with the connection, and all goes on by itself."""

ANOTHER_KEY = "shows the public key"
NOT_AUTHORIZED = "receives from authorized senders only"
"""In `lastErrorMessage` of a destination that somebody answers for, but nothing is sent to: it is not who it
should be, or does not take what we send. That does not mend itself."""


def is_refused(error: str) -> bool:
    return ANOTHER_KEY in error or NOT_AUTHORIZED in error


def is_no_space(error: str) -> bool:
    return error.startswith(NO_SPACE)
