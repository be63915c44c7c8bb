"""One module per asset. An asset locks, reads the delta, computes, writes and records; the work is in refresh/."""
