"""The models a user can choose, and how one is downloaded and converted."""
