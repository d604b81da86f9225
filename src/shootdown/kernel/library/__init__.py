"""A tree's C as a library: built, loaded, and which of its lines ran."""
