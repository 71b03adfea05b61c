"""The policy language: loading it with every error located, and evaluating it as a pure function."""
