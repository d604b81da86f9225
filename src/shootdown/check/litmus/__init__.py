"""Litmus tests: files, what they say, and the cases that are asked of them."""
