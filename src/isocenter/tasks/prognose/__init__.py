"""Prognosis: when an event comes, learnt from times of which some are only known to be longer.

cox         Cox regression with an elastic net, exact in its contributions
forest      random survival forest, all trees grown level by level at once
deep        DeepSurv and discrete-time networks (torch)
competing   cumulative incidence where another event may come first
learners    one face for all of them: preparation, choice of settings inside, fit
nested      nested cross-validation by patient
bands       how far the curve of a person could have come out otherwise
drivers     what moves a person's risk
people      the nearest patients, and who is too far from all of them
"""
