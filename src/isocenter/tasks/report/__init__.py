"""Drafts of reports, composed from the claim ledger."""
