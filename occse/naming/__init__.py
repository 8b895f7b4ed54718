"""Text for people: names of knobs, values, stages, metrics and variants, and its printing."""
