import { lookup } from "node:dns/promises";
import { BlockList, isIP, isIPv4 } from "node:net";
import { patternTest } from "./name-pattern.ts";

/** From where images may come that callers name by an address. */
export interface ImageSources {
  /** Hosts; `*` stands for any text. None: no address is let through. */
  readonly allow: readonly string[];
}

/** No address is let through. */
export const noImageSources: ImageSources = { allow: [] };

/** The addresses of a name; rejects where it has none. */
export type Resolve = (host: string) => Promise<readonly string[]>;

/**
 * Why an address must not be given to a server that would fetch it for a caller; undefined: it may. Data URLs are no
 * addresses. A host must be allowed by name, and neither be nor lead to anything but the public internet: what a server
 * of ours can reach, its callers must not reach through it. Never throws.
 *
 * The address must be written in the one way that all readers of URLs read alike; and a name may still lead elsewhere when
 * it is looked up again: who allows a host trusts it that far, and with where it redirects to.
 */
export async function addressProblem(
  address: string,
  { allow }: ImageSources,
  resolve: Resolve = addressesOf,
): Promise<string | undefined> {
  if (allow.length === 0) return "images are not fetched from addresses here";
  const host = hostOf(address);
  if (host === undefined) return "it is not written as a plain http or https address";
  if (!patternTest(allow.map((name) => name.toLowerCase()))(host)) return `images are not fetched from '${host}' here`;
  if (isPrivate(host)) return "it leads into a private network";
  if (isIP(host) !== 0) return undefined;
  try {
    const found = await resolve(host);
    if (found.length === 0) return `the name '${host}' leads nowhere`;
    return found.some(isPrivate) ? "it leads into a private network" : undefined;
  } catch {
    return `the name '${host}' leads nowhere`;
  }
}

/**
 * The host of a URL that every reader reads alike, in small letters, an IPv6 address without brackets; undefined for all
 * others: user names, backslashes, control characters, encoded hosts, and addresses in other spellings than the usual
 * one (2130706433, 0x7f.1, 0177.0.0.1 and [::ffff:7f00:1] are all 127.0.0.1).
 */
function hostOf(address: string): string | undefined {
  const written =
    /^https?:\/\/([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:]{2,45}\])(?::\d{1,5})?(?:[/?][\x21-\x5b\x5d-\x7e]*)?$/i.exec(
      address,
    )?.[1];
  if (written === undefined || !URL.canParse(address)) return undefined;
  const { hostname } = new URL(address);
  if (hostname !== written.toLowerCase()) return undefined;
  return hostname.startsWith("[") ? hostname.slice(1, -1) : hostname;
}

/** Names that mean something within one network only. */
const privateName =
  /^[^.]+$|(?:^|\.)(?:localhost|local|localdomain|internal|intranet|lan|home|corp|private|home\.arpa)$|\.$/;

/** Whether a host is anything but a place on the public internet, as far as its name or address tells. */
function isPrivate(host: string): boolean {
  // A zone (fe80::1%eth0) belongs to a link.
  if (host.includes("%")) return true;
  switch (isIP(host)) {
    case 4:
      return special.check(host, "ipv4");
    case 6:
      return !unicast.check(host, "ipv6") || special.check(host, "ipv6");
    default:
      return privateName.test(host);
  }
}

/** https://www.iana.org/assignments/iana-ipv4-special-registry and its sister for IPv6. */
const special = blocks([
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.31.196.0/24",
  "192.52.193.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "192.175.48.0/24",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/3",
  // Azure's, reached from within its machines only
  "168.63.129.16/32",
  // Teredo and other protocols' own, documentation, 6to4: all but plain addresses of hosts
  "2001::/23",
  "2001:db8::/32",
  "2002::/16",
  "2620:4f:8000::/48",
  "3fff::/20",
]);

/** All of IPv6 that hosts on the internet have; loopback, ULA, link-local, mapped IPv4 and NAT64 lie outside. */
const unicast = blocks(["2000::/3"]);

function blocks(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = "", bits] = network.split("/");
    list.addSubnet(address, Number(bits), isIPv4(address) ? "ipv4" : "ipv6");
  }
  return list;
}

async function addressesOf(host: string): Promise<readonly string[]> {
  const found = await lookup(host, { all: true });
  return found.map(({ address }) => address);
}
