"""A local exchange over synthetic bars that speaks the formats of real vendors. Never a source of real prices."""
