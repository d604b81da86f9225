"""The machine under the MMU: memory, locks, RCU and vCPUs, behind one interface that two machines implement."""
