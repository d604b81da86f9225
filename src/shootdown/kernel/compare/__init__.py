"""A tree's C and our MMU side by side: the same operations, and where they differ."""
