"""Text as input: rationale classifiers whose positions are the tokens of a text."""
