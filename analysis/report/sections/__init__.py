"""One file per part of the report: each makes sections from the material."""
