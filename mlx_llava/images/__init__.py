"""Images: files and URLs to arrays."""
