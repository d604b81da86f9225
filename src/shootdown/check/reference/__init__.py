"""A second explorer, slow and plain, which shares no code with the search."""
