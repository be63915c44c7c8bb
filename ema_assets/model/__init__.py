"""The ground floor: symbols, timeframes, frame schemas, asset names, errors, the clock. Imports no other package."""
