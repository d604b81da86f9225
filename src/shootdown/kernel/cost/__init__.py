"""What operations cost on a tree's C: counted, and timed."""
