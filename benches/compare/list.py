"""Lists a zone with Cloudflare's Python SDK, and says how many certificates that were."""

import sys

from cloudflare import Cloudflare

base_url, token, zone = sys.argv[1:]
client = Cloudflare(api_token=token, base_url=base_url)
certificates = list(client.client_certificates.list(zone_id=zone, status="all", per_page=50))
print(len(certificates))
