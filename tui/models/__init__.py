"""Which models a person can choose, and how one is downloaded and converted."""
