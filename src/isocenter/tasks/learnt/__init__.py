"""Tasks that `isocenter adapt --data` learnt from a labelled set; all that makes one lies in its folder."""
