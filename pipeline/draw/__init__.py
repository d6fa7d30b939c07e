"""From a finished run to files: pictures for a table of requests, which of them to ship, and the run's own images with a manifest."""
