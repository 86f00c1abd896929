"""Clinical tables: columns that know what they hold, in which unit, how much is missing and from when it is.

columns     numbers with a UCUM unit, categories, yes or no, dates
reading     CSV and ARFF into a `ClinicalTable`
timing      what is dated later than the index time is no feature; dates that lie ahead are refused
outcomes    time to an event, censored or competing, in days
missing     how much is missing, by column and by group
blocks      modalities beside the table: numbers or text of each patient, joined by the patient's key
"""

from isocenter.data.tables.blocks import BlockTable, read_block, read_texts
from isocenter.data.tables.columns import BooleanColumn, CategoryColumn, Column, DateColumn, NumberColumn
from isocenter.data.tables.missing import Missing, missingness, telling_gaps
from isocenter.data.tables.outcomes import Codes, Outcome, read_outcome
from isocenter.data.tables.reading import ClinicalTable, read_clinical
from isocenter.data.tables.timing import features_in_time

__all__ = [
    "BlockTable",
    "BooleanColumn",
    "CategoryColumn",
    "ClinicalTable",
    "Codes",
    "Column",
    "DateColumn",
    "Missing",
    "NumberColumn",
    "Outcome",
    "features_in_time",
    "missingness",
    "read_block",
    "read_clinical",
    "read_outcome",
    "read_texts",
    "telling_gaps",
]
