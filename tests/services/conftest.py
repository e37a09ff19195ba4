from hypothesis import settings

# A busy machine is no failure: no test asserts how long something takes.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
