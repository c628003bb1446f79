"""The state of one chat and its commands, independent of what shows them. Never imports Textual."""
