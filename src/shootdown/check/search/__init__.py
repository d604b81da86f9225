"""The search: all states of a case, by tables, to the first thing that breaks."""
