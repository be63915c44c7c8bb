"""HTTP for all vendors: budget, retries, bounded answers, typed errors. What is requested is not known here."""
