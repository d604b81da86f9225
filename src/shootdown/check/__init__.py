"""The checker: explores every interleaving of MMU code on worst-case hardware."""
