"""One self-contained HTML page of a run: figures with intervals, styles, a gallery of users, training curves, rejected rows."""
