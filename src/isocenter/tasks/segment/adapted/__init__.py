"""One structure, learnt from a session's confirmed cases by `isocenter adapt`; the card lies in the task's folder."""
