"""Files of other people's sets to arrays and values.  Nothing here trusts what it reads, or repairs it in silence."""
