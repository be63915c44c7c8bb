"""The vendors' formats that the sandbox speaks: one module per vendor, found by itself through its `dialects`."""
