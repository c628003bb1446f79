"""What every command stands on: options, errors at the end of a process, paths, text for terminals."""
