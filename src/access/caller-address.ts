import { BlockList, isIP } from "node:net";
import type { Call } from "../core/call.ts";
import { toPlainAddress } from "../core/ip-address.ts";

/**
 * Who really calls: the connection's other end or, where that is one of these fronts (addresses or CIDR ranges, e.g.
 * `10.0.0.0/8`), the last address in `X-Forwarded-For` that is none of them. Throws `Error` for what is no address.
 */
export function callerAddress(fronts: readonly string[]): (call: Call) => string {
  const trusted = toBlockList(fronts);
  const isFront = (address: string): boolean => trusted.check(address, isIP(address) === 6 ? "ipv6" : "ipv4");
  return (call) => {
    const peer = toPlainAddress(call.address ?? "");
    const told = call.headers["x-forwarded-for"];
    if (fronts.length === 0 || told === undefined || isIP(peer) === 0 || !isFront(peer)) return peer;
    let nearest = peer;
    // From the right: what stands further left, anybody may have written.
    for (const hop of told.split(",").slice(-mostHops).reverse()) {
      const address = toPlainAddress(withoutPort(hop.trim()));
      if (isIP(address) === 0) return nearest;
      nearest = address;
      if (!isFront(address)) return address;
    }
    return nearest;
  };
}

const mostHops = 20;

function toBlockList(fronts: readonly string[]): BlockList {
  const list = new BlockList();
  for (const front of fronts) {
    const [address = "", bits] = front.split("/");
    const family = isIP(address);
    const most = family === 6 ? 128 : 32;
    if (family === 0 || (bits !== undefined && !(/^\d{1,3}$/.test(bits) && Number(bits) <= most)))
      throw new Error(
        `${JSON.stringify(front)} is no address of a front: write for example 10.0.0.5, 10.0.0.0/8 or fd00::/8`,
      );
    list.addSubnet(address, bits === undefined ? most : Number(bits), family === 6 ? "ipv6" : "ipv4");
  }
  return list;
}

/** `192.0.2.1:4711` and `[2001:db8::1]:4711`, as some fronts write it. */
function withoutPort(address: string): string {
  return address.replace(/^\[(.*)\](?::\d+)?$/, "$1").replace(/^([\d.]+):\d+$/, "$1");
}
