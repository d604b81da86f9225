"""A way to a broken promise, in words, drawn, and kept in files."""
