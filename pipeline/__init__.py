"""RAGAR's library: data sets become tables, models fill them row by row, and a recommender steers what is drawn.

`schemas` declares every table, `params` reads a stage's configuration, `artifacts` reads and writes files, `ledger` keeps
finished rows, `runtime` knows the device. `data` and `models` wrap the outside world; `captioning`, `embedding`,
`retrieval`, `keywords` and `ranker` are the method's first half; `conditioning`, `reflection` and `generation` its second;
`evaluation` and `report` say how well it went. Nothing here imports `stages`, which only wire these to the command line.
"""
