"""What the workflow does is shown by the web server: results in its catalog, work in its worklist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from isocenter.clinic.dicomweb import Catalog
from isocenter.clinic.ports import Facts, Route, Router, Runner, Work, Worked
from isocenter.clinic.workflow.worksteps import Worksteps
from isocenter.core.errors import DataError

__all__ = ["ClaimingRouter", "ShowingRunner"]


@dataclass(frozen=True)
class ShowingRunner:
    """A `Runner` whose results can be found by DICOMweb.

    Results of a rule in shadow are not shown: nobody is to act on them. Nor are those without identity, which belong to
    research and carry other UIDs than the studies here.

    Args:
        runner: Who answers.
        catalog: Where results are found.
    """

    runner: Runner
    catalog: Catalog

    def run(self, work: Work) -> Worked:
        """Answer a study; see `Runner`. A result that can't be shown is told, and sent all the same."""
        worked = self.runner.run(work)
        told = list(worked.told)
        if not work.route.shadow and work.route.identity == "keep":
            for file in worked.files:
                if file.form == "dicom":
                    try:
                        self.catalog.add(file.path)
                    except DataError as error:
                        told.append(f"a result is not shown by DICOMweb: {error}")
        return replace(worked, told=tuple(told))


@dataclass(frozen=True)
class ClaimingRouter:
    """A `Router` that claims a study's workitem before it says what is done with the study.

    Args:
        router: Who chooses.
        steps: The node's own workitems.
    """

    router: Router
    steps: Worksteps

    def routes(self, facts: Facts) -> Sequence[Route]:
        """Return the routes; see `Router`.

        Raises:
            DataError: The workitem was canceled, or is performed by somebody else.
        """
        self.steps.claim(facts.study)
        return self.router.routes(facts)
