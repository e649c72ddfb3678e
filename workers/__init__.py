"""The reach: groups of workers, and what each worker does; the only place of backends."""
