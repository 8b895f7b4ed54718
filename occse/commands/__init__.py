"""The CLI of one trial on one machine: one file per command."""
