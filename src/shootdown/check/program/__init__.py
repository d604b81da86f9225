"""The programs of a test, unrolled on the checked machine into automata."""
