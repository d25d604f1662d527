// Lists a zone with Cloudflare's TypeScript SDK, and says how many certificates that were.

const Cloudflare = require("cloudflare");

async function main() {
  const [baseURL, apiToken, zone_id] = process.argv.slice(2);
  const client = new Cloudflare({ apiToken, baseURL });
  const certificates = [];
  for await (const certificate of client.clientCertificates.list({ zone_id, status: "all", per_page: 50 })) {
    certificates.push(certificate);
  }
  console.log(certificates.length);
}

main();
