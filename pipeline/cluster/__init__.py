"""Maps over rows on a Ray cluster: workers compute batches, and this process, the driver, commits them."""
