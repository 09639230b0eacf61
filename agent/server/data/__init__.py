"""The data path: what crosses between two transfer servers, and how it becomes files."""
