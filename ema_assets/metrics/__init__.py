"""Metrics for Prometheus: the readings, the names of the metrics, and their server. Reads, never writes.

Only this room imports the library prometheus_client. `python -m ema_assets.metrics` is the process.
"""
