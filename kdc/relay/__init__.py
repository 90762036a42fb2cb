"""Carries channels of receivers that cannot be reached; sees no more than the network does."""
