"""Signals: one module each, found by itself. A module declares SIGNAL and holds the pure function that computes it."""
