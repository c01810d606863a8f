"""The ledger: an append-only log of shows in SQLite, so that a mark that is found later leads to a show."""

START, PROMPT, BEAT, SIGNED, END = "start", "prompt", "beat", "signed", "end"  # kinds of events; see `store`
