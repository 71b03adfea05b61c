"""What a policy would change before it is in force: images and recorded decisions, under today's policy and another.

Nothing here decides for anybody: the daemon's own engine is asked, about each image twice.
"""
