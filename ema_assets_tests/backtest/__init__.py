"""Tests of backtests. They compare results with stored trades, with SQL and with curves computed bar by bar."""
