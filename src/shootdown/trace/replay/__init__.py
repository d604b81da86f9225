"""Replay: our MMU driven with the operations of a recording, and compared with it change for change."""
