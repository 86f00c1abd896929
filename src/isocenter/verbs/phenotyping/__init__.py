"""What `isocenter phenotype` is made of: its inputs, its document, its page."""
