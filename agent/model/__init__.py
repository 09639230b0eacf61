"""The nouns: specs, change sets, plans, actions, observed objects, conditions, units. No I/O, no clock."""
