"""The loop: one queue, one worker per key, a checklist per kind of object, one place that writes status."""
