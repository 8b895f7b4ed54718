"""Dicts of numpy arrays, as other repositories of this field save them, read without unpickling."""
