"""Several sources of one patient joined: images' embeddings, a clinical table, a report; any may be missing.

heads       what is learnt at the end: a class, Cox's partial likelihood, or hazards over intervals of time
intervals   the intervals, and curves from hazards (no torch)
network     tokens of the sources, learned tokens of the missing ones, attention with weights that are told
"""
