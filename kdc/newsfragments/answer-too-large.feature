`Client.ask` raises `TooLarge`, a `RefusedByPolicy`, for an answer that is longer than its limit.
