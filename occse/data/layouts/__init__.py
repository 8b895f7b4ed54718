"""One reader for each layout that a data set may have on disk."""
