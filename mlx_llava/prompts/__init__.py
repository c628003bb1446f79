"""Prompts: turns to pieces to tokens, and tokens back to text."""
