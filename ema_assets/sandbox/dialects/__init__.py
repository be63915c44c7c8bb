"""The vendors' formats in the sandbox: one module per vendor, discovered by itself, with a function `dialects`."""
