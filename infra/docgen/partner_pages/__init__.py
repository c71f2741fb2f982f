"""Pages for each partner's own people: what we read, from where, into what. Made from the reviewed files; nothing is written twice."""
