"""Field cases of security and information governance: what partners and hubs must not learn, and must not be able to do."""

from tests.field.security import edges, inference, integrity, restricted_unit, stays, storage

__all__ = ["edges", "inference", "integrity", "restricted_unit", "stays", "storage"]
