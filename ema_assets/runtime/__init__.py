"""What `ema-assets up` runs: the process stack, its supervisor and the embedded PostgreSQL."""
