"""The base of every command: options, exit codes and error messages, folders, text for terminals."""
