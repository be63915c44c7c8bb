"""`ema-assets doctor`: checks everything around the pipeline and says what to do. Starts nothing and writes nothing.

Each module of `checks` declares a `CHECK`, which is discovered automatically.
"""
