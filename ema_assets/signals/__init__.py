"""Signals: one module each, found by discovery. It declares SIGNAL and has the pure function that computes it."""
