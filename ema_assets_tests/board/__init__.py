"""Tests of the board: real sockets, a real PostgreSQL, a real browser."""
