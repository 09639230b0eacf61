"""What the agent remembers, in one SQLite file under its state directory."""
