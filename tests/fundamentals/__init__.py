"""What docket promises, from the first task to the last worker: read in order, it is a tutorial.

Only public names are used. The docstring of each test is the promise.
"""
