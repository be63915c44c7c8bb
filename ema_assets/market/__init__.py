"""Pure knowledge about bars: calendars, validation, outliers, gaps, corporate actions, rollups. No I/O and no clock."""
