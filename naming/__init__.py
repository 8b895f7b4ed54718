"""Names for people: of knobs, their values, stages, metrics and variants, in every place alike."""
