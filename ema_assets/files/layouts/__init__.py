"""One module per vendor: how its files of bars are recognised and what their columns mean. Reads no file."""
