"""One module per data set, named as `dataset.name` names it: from raw files to the three tables. A new data set is one new file here."""
