"""`make fetch-images`: download missing images by the URLs in the user's own data. No stage and no test does; nobody is asked but those hosts."""
