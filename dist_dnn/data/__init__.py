"""Reading tables by rows, and turning their columns into X and Y; the only place of pyarrow."""
