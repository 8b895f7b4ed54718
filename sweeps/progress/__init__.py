"""What a person reads while a sweep runs."""
