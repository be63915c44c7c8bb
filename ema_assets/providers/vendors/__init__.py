"""The clients: one module per vendor, which turns requests for bars into calls and answers into bars."""
