"""All orders of steps of a tree's C: litmus tests, verdicts, schedules."""
