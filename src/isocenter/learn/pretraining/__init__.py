"""Learning from images that nobody labelled: the engine that every self-supervised method shares.

args        settings that all methods have
files       which images there are, and the hash of each
images      pixels of them, prepared; what can't be read is named and counted
crops       a part of an image as a pure function of a generator
learner     the face of what a method trains; `Recipe` puts a method together
trainer     the loop: checkpoints, exact resume, averaged weights, several processes
collapse    are the embeddings still different from each other?
card        weights with their passport, and the curves
method      a recipe behind the face that `isocenter pretrain` knows
"""
