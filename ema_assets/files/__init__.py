"""Reading of bar files in the layouts that vendors and people write. Uses no store, no watchlist and no clock."""
