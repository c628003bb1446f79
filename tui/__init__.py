"""The terminal chat: a screen over one engine thread, or plain lines of text."""
