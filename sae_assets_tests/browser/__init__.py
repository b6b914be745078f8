"""The real UI in a real browser: a webserver on a finished home, pictures of it, and a test."""
