"""The kernel's own TDP MMU, in C, from a tree of the user's: built, explored, compared with ours."""
