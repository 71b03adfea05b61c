"""The one HTTP client: exchanges bounded in time and size."""
