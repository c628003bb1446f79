"""Prompts: turns to tokens."""
