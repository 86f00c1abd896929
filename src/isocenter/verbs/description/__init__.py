"""What `isocenter describe` says of an archive: gathered, drawn, and written as one page."""
