"""Measurements of speed and memory; each prints what its docstring says."""
