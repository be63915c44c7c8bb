"""A local exchange with synthetic bars that answers in the formats of real vendors. Never a source of real prices."""
