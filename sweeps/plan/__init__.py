"""The stages that would run, the reason, and their cost."""
