"""Network Candidate Search: candidates, elimination, the ledger, and where training runs."""
