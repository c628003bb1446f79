"""Chats on disk: saved, searched, exported."""
