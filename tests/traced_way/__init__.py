"""How much code of the product one message enters, from its sender to its recipient."""
