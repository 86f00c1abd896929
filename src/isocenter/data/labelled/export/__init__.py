"""A labelled set, written in the form that a training wants: `write_labelled(labelled, folder, "nnunet")`.

| form | what it is | read back by |
| - | - | - |
| folders | images/, labels/, classes.txt, patients.csv, splits.csv: Isocenter's own | `open_labelled` |
| nnunet | nnU-Net raw, version 2, with splits_final.json | `open_labelled` |
| decathlon | Medical Segmentation Decathlon | `open_labelled` |
| coco | pictures with annotations.json, masks as run lengths | `open_labelled` |
| bids | BIDS with the masks as a derivative | the readers of NIfTI |
| seg | DICOM Segmentation beside the series that they were drawn on | the reader of SEG |
| shards | Blosc2 shards for random patches | the reader of shards |

Nothing of an image goes along but its numbers, its grid and its modality: no names of files, no header facts, no UIDs
(a DICOM Segmentation is the exception, since it names the series that it belongs to). Pixels may still show a person.
Patients are kept together: cases bear a patient, parts are of patients, and folds are cut between them. Every case is
read back and compared before the folder gets its name.
"""

from isocenter.data.labelled.export.form import FORMS, Exported, ExportOptions, Form
from isocenter.data.labelled.export.write import write_labelled

__all__ = ["FORMS", "ExportOptions", "Exported", "Form", "write_labelled"]
