"""The read side: status, health, screener and stored rows, now or as of a moment. Writes nothing."""
