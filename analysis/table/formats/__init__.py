"""A table as text or as a file, in the formats of papers, pages, programs and terminals."""
