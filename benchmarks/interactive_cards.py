"""Put the measured figures of docs/results/interactive.json on the cards of the built-in interactive weights.

    python -m benchmarks.interactive_cards

The weights themselves are not touched: a card vouches for the same file, with newer figures.
"""

from __future__ import annotations

import json

from benchmarks.__main__ import ROOT
from isocenter.models.weights import CardMetric, built_in_folder, read_card, render_card


def main() -> None:
    """Rewrite the cards."""
    measured = json.loads((ROOT / "docs" / "results" / "interactive.json").read_text("utf-8"))
    for name, metrics in measured.items():
        card = read_card(name).model_copy(update={"metrics": tuple(CardMetric.model_validate(m) for m in metrics)})
        folder = built_in_folder()
        (folder / f"{name}.json").write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (folder / f"{name}.md").write_text(render_card(card), encoding="utf-8")


if __name__ == "__main__":
    main()
