"""Data cards: prose by people, facts from the data, and what is published.  Import the modules you need."""
