"""`make demo`: a page on this machine on which a person asks the finished run for a picture and sees what it was drawn from."""
