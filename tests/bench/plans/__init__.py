"""How the store in PostgreSQL does with years of orders in it: see `__main__`."""
