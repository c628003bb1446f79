"""The screens of the terminal chat, one file each."""
