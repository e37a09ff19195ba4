"""Machines on Chameleon Cloud that are never left running.

`lease` makes and prolongs the reservation that every server needs, `heartbeat` keeps it alive while a sweep runs,
`teardown` finds and removes everything by name, `guard` does so whichever way a process ends.
"""
