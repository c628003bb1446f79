"""Weights as rows: planned, quantized and written a few at a time."""
