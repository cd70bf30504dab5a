"""Result files -> tables and a page: a pure function of committed files."""
