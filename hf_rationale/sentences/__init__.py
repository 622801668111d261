"""A kind of input: documents of any length as sequences of sentences, each encoded on its own into one vector."""
