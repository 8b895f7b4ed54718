"""A sweep file: read, checked, expanded into trials."""
