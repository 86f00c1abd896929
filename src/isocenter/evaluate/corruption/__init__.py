"""Images made worse as scanners and people make them worse, in five grades: for drop curves and for gates.

Every kind says for which modalities it is meant, is decided by a seed, and grows with its grade: the same noise, the
same movement, only more of it. Kinds that move the picture move the mask with it. numpy and scipy alone.

    noise.py     Rician, photon, low dose, low count, speckle
    scanner.py   motion, ghosting, bias field, thick slices, contrast medium washed out
    picture.py   gamma, blur, JPEG, burnt-in letters, inversion
    placing.py   rotation, crop
"""

from isocenter.evaluate.corruption.apply import CORRUPTIONS, Corrupted, corrupt, corruptions_for
from isocenter.evaluate.corruption.kind import GRADES, Corruption, Scene

__all__ = ["CORRUPTIONS", "GRADES", "Corrupted", "Corruption", "Scene", "corrupt", "corruptions_for"]
