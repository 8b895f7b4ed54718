"""The places that runs are read from: MLflow's database file itself, or a tracking server."""
