"""Images in the terminal: files in, cells of text out."""
