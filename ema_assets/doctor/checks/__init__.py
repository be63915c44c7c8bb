"""What the doctor looks at: one module per check, each with a record `CHECK`. How they are run is not known here."""
