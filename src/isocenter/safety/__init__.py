"""What an answer may promise, for which images it may be given, and a record of what was done. No torch.

    quantiles      order statistics of calibration cases, and what they promise
    sets           sets of classes that hold the true one with a promised chance (LAC, APS, RAPS; by class, by group)
    intervals      intervals of numbers and volumes
    difficulty     how hard an image is, so that an interval is wide where the answer is unsure
    risks          the chance that a score stands for, as an interval (Venn-Abers)
    masks          a threshold that bounds the share of a structure that a mask misses (conformal risk control)
    calibration    temperature, Platt and isotonic maps of probabilities
    gate           is this image like those that were learnt from? a score, its chance, a reason
    left_out       the same where images are of several sources: each is left out in turn
    acquisition    what a header says against what was learnt from
    descriptors    numbers of a picture that need no network
    quality        the Dice that a mask can be expected to have, learnt on held-out cases that were also spoilt
    audit          who ran what on what: a chain of lines that can't be altered unseen

Every rule is a frozen object that is fitted on held-out cases and kept as JSON (`as_card`, `from_card`).
"""
