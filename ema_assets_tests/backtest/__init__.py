"""Tests of backtests: against what is stored, against SQL, against curves bar by bar."""
