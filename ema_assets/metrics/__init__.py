"""Metrics for Prometheus: what is read, what it is called, and the server that hands it out. Reads, never writes.

The library prometheus_client is imported here only. `python -m ema_assets.metrics` is the process.
"""
