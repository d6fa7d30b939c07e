"""Whether every stage can run on a data set with the params at hand: asked before anything expensive."""
