"""The human study of the paper's Table 3: pages for participants from a finished run, and what their ballots say."""
