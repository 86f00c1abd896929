"""From a result to a ledger, a draft and its page."""
