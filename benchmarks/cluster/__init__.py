"""Several worker hosts on one machine: network namespaces, a broker, faults. Linux and root only."""
