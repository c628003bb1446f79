"""Folders in formats other than a converted one's, and converted folders made from others."""
