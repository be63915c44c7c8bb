"""Faults under a real `ema-assets up`, and what must hold after each of them. `python -m benchmarks.chaos --help`."""
