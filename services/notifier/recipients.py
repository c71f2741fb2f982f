"""Recipients and their addresses: all come from partners.yaml and deployment.yaml."""

from services.notifier.channels.fhir_endpoint import EndpointAddress
from services.notifier.compose import Recipient, RegisteredRecipient
from services.reference.partners import Partner, Partners


class PartnerRecipients:
    """Implements `compose.Recipients`, and looks up addresses for the channels."""

    def __init__(self, partners: Partners, *, mesh: bool) -> None:
        self._partners = partners
        self._mesh = mesh
        self._recipients = {partner.id: self._recipient(partner) for partner in partners}

    @property
    def routes_by_mesh(self) -> bool:
        """Whether this installation sends by MESH."""
        return self._mesh

    def partner(self, partner_id: str) -> RegisteredRecipient | None:
        """Return the partner with this id as a recipient, or None."""
        return self._recipients.get(partner_id)

    def organisation(self, ods: str) -> RegisteredRecipient | None:
        """Return the partner with this ODS code as a recipient, or None."""
        partner = self._partners.by_ods(ods)
        return self._recipients[partner.id] if partner else None

    def fhir_address(self, partner_id: str) -> EndpointAddress | None:
        """Return the partner's FHIR endpoint in this installation, or None.

        The token file is read at every use, so that the token can be renewed without a restart.
        """
        access = self._partners.access(partner_id)
        if access.feedback_url is None:
            return None
        token = access.feedback_token_file.read_text().strip() if access.feedback_token_file else None
        return EndpointAddress(str(access.feedback_url), token)

    def mesh_mailbox(self, partner_id: str) -> str | None:
        """Return the partner's MESH mailbox, or None."""
        partner = self._partners.by_id(partner_id)
        return partner.feedback.mesh_mailbox if partner else None

    def _recipient(self, partner: Partner) -> RegisteredRecipient:
        recipient = Recipient(id=partner.id, ods=partner.ods, name=partner.name, channel=partner.feedback.channel)
        return RegisteredRecipient(recipient=recipient, kind=partner.kind)
