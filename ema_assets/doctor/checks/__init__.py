"""The doctor's checks: one module per check, each with a record `CHECK`. Running them is not done here."""
