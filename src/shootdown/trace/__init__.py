"""Read what a real kernel recorded: containers, columns, the rebuild of page tables, operations."""
