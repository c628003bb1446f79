"""LLaVA: its three parts, joined. Arrays only."""
