"""One file per stage: its knobs, its needs, its resources, its code."""
