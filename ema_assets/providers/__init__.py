"""Bars over HTTP: one module a vendor, and what they share. Nothing here knows tables or assets."""
