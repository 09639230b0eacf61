"""What the transfer server remembers: one SQLite database, one module per kind of object.

The functions here take the connection first, run on the database thread, and neither begin nor commit:
`Database.run` makes each call one transaction.
"""
