"""Network Candidate Search: candidates, elimination, the ledger, and where training runs.

Called, `efficientnet_elite.search(...)` runs a search: see `efficientnet_elite.job.api.search`.
"""

from efficientnet_elite.callable_rooms import make_callable

make_callable(__name__)
