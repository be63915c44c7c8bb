"""HTTP for all vendors: budget, retries, bounded answers, typed errors. What is asked for is not known here."""
