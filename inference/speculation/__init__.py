"""Speculative decoding: guess a few tokens cheaply, and let one step of the model verify all of them.

A step that computes five tokens of a request takes little longer than one that computes one, as long as reading the
weights is what takes the time (Leviathan et al. 2023, "Fast inference from transformers via speculative decoding";
Chen et al. 2023, "Accelerating large language model decoding with speculative sampling").

Here is who guesses (`drafter`, a small model; `ngram`, the text itself), how far ahead it pays (`depth`), and how often
guesses were right (`acceptance`). Verifying is sampling, and the engine's.
"""
