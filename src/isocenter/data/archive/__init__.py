"""The archive: sources taken in, de-identified, joined and catalogued.

`take_in` is idempotent and may be killed anywhere: the catalog is a pure function of what the sources hold, the policy
of de-identification and the key of pseudonyms. docs/explanation/archive.md tells why it is made as it is.
"""
