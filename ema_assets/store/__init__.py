"""SQL and nothing else: the connection, migrations, tables of series, the ledger, quality of bars, views of results."""
