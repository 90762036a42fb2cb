"""The stores, and one conformance suite for all of them."""
