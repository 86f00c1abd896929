"""Parts of `isocenter treat`: the table, the analysis, the document and the page."""
