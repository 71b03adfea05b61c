"""What a policy would change before it is in force: images and recorded decisions, under today's policy and another.

Nothing here decides: the engine of the daemon is asked about each image, under each of two policies.
"""
