"""The frozen evaluation ranker: two towers, trained on the data set's tables alone, never a reward, out of reach of the method's params."""
