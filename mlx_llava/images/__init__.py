"""Pictures: files to arrays."""
