"""Prognosis: when an event comes, learnt from times of which some are only known to be longer.

cox         Cox regression with an elastic net, exact in its contributions
forest      random survival forest, all trees grown level by level at once
deep        DeepSurv and discrete-time networks (torch)
fused       the same two over several modalities of which any may be missing (torch)
preparing   people as a matrix: table, and blocks harmonised and reduced, fitted on training people alone
sources     what each modality adds to a person's risk, and how much it was attended to
fine_gray   regression of the share that has an event, where another may come first
competing   cumulative incidence where another event may come first
learners    one face for all of them: preparation, choice of settings inside, fit
nested      nested cross-validation by patient
bands       how far the curve of a person could have come out otherwise
drivers     what moves a person's risk
people      the nearest patients, and who is too far from all of them
"""
