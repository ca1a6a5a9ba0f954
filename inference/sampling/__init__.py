"""Choosing the next token of every row of a batch, each by its own parameters."""
