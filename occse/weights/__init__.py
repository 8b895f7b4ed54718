"""Weight files of all dialects: read, described, loaded into networks."""
