"""How fast things are. Tests never assert it. Run as `python -m benchmarks.NAME`; README.md has the figures."""
