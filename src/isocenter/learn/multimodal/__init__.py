"""Learning to answer questions about images: the training, its blind twin, the gap between them, what is promised.

config    everything that a training depends on
cases     images, questions and answers; from synthesis or a table
trainer   the training, killed and resumed without a trace
measure   answers with the image, without it, and with another patient's; the gap
promise   what held-out answers promise: temperature, conformal sets, whether looking helps
export    weights with their card
"""
