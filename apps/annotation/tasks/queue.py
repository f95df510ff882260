"""Wake-ups for the queue: photos to be queued, leases that ended, queues to be ranked anew."""


def sweep_queue() -> None:
    """Find what a lost message left undone."""
