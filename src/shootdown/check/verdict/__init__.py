"""What a search means for who asked: verdicts, what they rest on, runs of many."""
