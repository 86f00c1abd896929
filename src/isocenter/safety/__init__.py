"""Room of the house that later parts build; see docs/explanation/house.md for what belongs here."""
