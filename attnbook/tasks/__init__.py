"""Generated worlds, small enough to learn in seconds and known through and through: toy tasks, one file each."""
