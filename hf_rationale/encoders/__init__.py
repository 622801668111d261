"""Encoders and tokenizers of the rationalization literature that transformers does not have."""
