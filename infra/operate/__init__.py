"""What people do to a running hub by command: quarantine, replay, republish. Every action is recorded: who, when, what, why."""
