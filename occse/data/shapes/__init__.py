"""The embedded data set `shapes`: drawn in code, written in VOC layout."""
