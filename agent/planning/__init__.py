"""Pure decisions: desired and observed state, changes and policy in, a plan out. No I/O and no clock."""
