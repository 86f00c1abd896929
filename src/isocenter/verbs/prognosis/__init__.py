"""The parts of `isocenter prognose`: a table in, a model with its figures out; people in, risk curves out.

document    what is written
inputs      a table of people into covariates and times, with what was left out and why
figures     what held-out predictions are worth
keeping     the folder of a model
person      the answer for one person
drawing     curves as inline SVG
page        the HTML pages
"""
