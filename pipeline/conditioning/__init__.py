"""From a preference to a prompt of token states: [IMG] vectors, modal mapper and balance calibrator (eq. 7-9)."""
