"""Strategies of the 9-30 family: what a variant is, and the simulator that turns bars into trades. No I/O, no clock."""
