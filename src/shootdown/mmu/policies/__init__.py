"""Flush policies: how the removal of page tables and translations is made visible to vCPUs, a file each."""
