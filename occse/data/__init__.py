"""Images, image labels and masks of a data set, and the views that a training takes of them."""
