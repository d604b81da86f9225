"""Price flush policies on recorded operations."""
