"""What a user gives: a Linux tree, patches to it, what is in them, and what differs between trees."""
