"""One protocol for Spin and for this checker, and both timed on it."""
