"""Tables and the postcodes in them."""
