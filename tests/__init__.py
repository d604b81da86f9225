"""The tests: ``sh tests/run.sh`` runs all of them as they must pass."""
