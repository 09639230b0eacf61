"""Tests, and what they and the benchmarks share: a package, so that none that is installed has its name."""
