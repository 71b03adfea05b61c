"""Tests of a policy: images, real or described, and callers, put to the very engine that the daemon decides with."""
