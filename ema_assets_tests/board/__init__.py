"""Tests of the board with real sockets, a real PostgreSQL and a real browser."""
