"""`ema-assets doctor`: looks at everything around the pipeline and says what to do. Starts nothing and writes nothing.

Each module of `checks` declares a `CHECK`, which is found by itself.
"""
