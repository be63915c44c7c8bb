"""A local exchange over synthetic bars, speaking a real vendor's wire format. Never a source of real prices."""
