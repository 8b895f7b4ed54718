"""Lines, live view and status file of a running sweep."""
