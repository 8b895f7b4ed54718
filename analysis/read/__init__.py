"""Everything that is read from MLflow, as frames and counts."""
