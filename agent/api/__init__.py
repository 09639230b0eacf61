"""The agent's HTTP face: health, status, plan and the verbs, on its own socket and on a local TCP port."""
