"""Database migrations, and the postcode table."""
