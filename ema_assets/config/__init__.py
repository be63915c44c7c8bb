"""What the user configures: environment variables and the watchlist file. Parsed once, checked here."""
