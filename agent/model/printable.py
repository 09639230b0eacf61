"""Text as it is safe to show. Apart from what is shown, so that commands are quick to start."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text that is safe on any terminal: control characters and bytes that are not UTF-8 become escapes."""
    if text.isprintable() and text.isascii():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
