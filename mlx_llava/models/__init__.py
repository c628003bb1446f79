"""The three parts of LLaVA and how they are joined. Arrays only."""
