"""How a model is downloaded and converted."""
