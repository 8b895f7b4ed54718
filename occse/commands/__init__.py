"""The CLI of one trial on one machine."""
