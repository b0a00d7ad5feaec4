"""Which notebooks have to run again, and running them."""
