"""One question about a sweep per file."""
