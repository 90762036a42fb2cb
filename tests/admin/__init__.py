"""What an operator asks for, on any store."""
