"""What a training needs, before it is started: memory, work and time.

counting    parameters, saved activations, peak memory, operations and traffic of a step, of fake tensors without memory
rates       what a machine achieves: measured, kept in a file, and how long a counted step takes there
layout      how many processes hold a learner, in which parts, and what that costs
"""
