"""One module per vendor, which declares how its bar files are recognised and what their columns mean. Reads no file."""
