"""A kind of input: graphs, such as molecules, of which nodes are selected."""
