"""Every operation against its dense reference."""
