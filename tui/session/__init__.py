"""One chat: its conversation, draft, engine, settings and commands, without a screen."""
