"""A partner without a system of its own for feedback fetches it: what is kept for it, and nothing else.

python examples/connect/fetch_feedback.py NOTIFIER TOKEN REFERENCE
"""

import json
import sys
import urllib.request


def main(notifier: str, token: str, reference: str) -> None:
    asked = urllib.request.Request(
        f"{notifier}/referrals/{reference}/feedback", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(asked) as answer:
        print(json.dumps(json.load(answer), indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:4])
