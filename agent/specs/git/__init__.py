"""Specs from a git repository: one ref is followed, each commit is checked and exported as plain files.

The system's `git` program talks to the repository. Nothing that a repository holds is ever executed: no
work tree is checked out, so hooks, filters, attributes and submodules have no part in it.
"""
