"""The relay: a meeting point for senders and receivers that no sender can reach directly.

A receiver keeps a control link to the relay and is known there by its keys and addresses. A sender asks for
one of them; the receiver then comes to the relay with a connection of its own, and the relay passes bytes
between the two. What passes is TLS from end to end.
"""
