"""The source trees: which files count, what is there, and what changes."""
