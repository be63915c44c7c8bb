"""Where bars come from. A module here declares one provider and is found by itself; what is heavy is in the folders."""
