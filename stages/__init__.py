"""One thin command-line file a stage: read params and tables, call one library function, write the outs."""
