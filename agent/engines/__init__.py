"""The port to transfer servers, and one adapter for each kind of server."""
