"""Questions about a study, answered by tools over the claim ledger; whoever asks, and whoever chooses the tools."""
