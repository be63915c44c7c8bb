"""The sources of bars. Each module here declares one provider and is discovered by itself; heavy code is in folders."""
