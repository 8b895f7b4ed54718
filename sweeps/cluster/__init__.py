"""What runs on Ray. Importing these modules imports no torch."""
