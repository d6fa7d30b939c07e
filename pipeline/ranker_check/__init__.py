"""The frozen evaluation ranker: a two-tower model that reads the data set's tables alone, is never a reward, and that no param of the method reaches."""
