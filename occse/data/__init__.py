"""Images, image labels and masks: the VOC layout and the embedded data set `shapes`."""
