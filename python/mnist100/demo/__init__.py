"""A page to draw a number on, and the server that reads it."""
