"""What is fast is shown here, never asserted by a timer in a test. Run as `python -m benchmarks.NAME`."""
