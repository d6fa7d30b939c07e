"""Score every drawn image against history, reference, truth and recommender, and summarise with intervals over users."""
