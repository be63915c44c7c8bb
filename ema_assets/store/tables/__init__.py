"""The tables of bars, signals, trades and states: declared in table, made in creation, reads and writes. SQL only."""
