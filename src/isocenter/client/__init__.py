"""Use a server of `isocenter serve` from Python: studies, images, outlining, readings, drafts, questions. No torch.

    from isocenter.client import Client

    with Client("http://127.0.0.1:8470/#token=...", reader="AB") as client:
        study = client.studies().items[0]
        image = client.study(study.id).images[0]
        with client.session("nodule") as session:
            session.open(image)
            session.point((10.0, -32.5, 801.0))
            session.confirm()

Errors are those of `isocenter.core.errors`, as the server says them: `AtCapacity` when all places are taken,
`SessionExpired`, `NotFound`, `Conflict`, and `TransportError` when it does not answer.
"""

from isocenter.client.client import Client
from isocenter.client.session import Outline, Session
from isocenter.client.transport import error_of

__all__ = ["Client", "Outline", "Session", "error_of"]
