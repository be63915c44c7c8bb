"""Files of bars as people have them: what is in them, read without a store, a watchlist or a clock."""
