"""PMG: keywords of a user's taste from a language model, soft preference embeddings, and the choice of the best image."""
