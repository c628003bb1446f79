"""From a loaded model to answers."""
