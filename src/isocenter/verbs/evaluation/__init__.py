"""The parts of `isocenter evaluate` and `isocenter check`: inputs of each kind in, one document and one page out.

`masks`, `scores`, `reports`, `survival` and `runs` turn an input into a `System`: cases, and figures over any of them.
`analysis` puts intervals, comparisons and subgroups on those figures; `document` is what is written; `page` and
`drawing` show it.
"""
