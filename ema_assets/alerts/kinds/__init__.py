"""One module per kind of alert, each with a `KIND`. A new kind is a new file here."""
