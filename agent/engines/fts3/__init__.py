"""The engine port on a service of FTS3.

FTS3 has jobs of single files, and no destinations or transfers: those live in a store of the adapter's own.
A transfer goes out as many small jobs, a few at a time for each link, so that what is urgent and comes late
does not wait behind what came early.
"""
