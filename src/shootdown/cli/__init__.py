"""The command line: one file a command; no logic, only arguments in and text out."""
