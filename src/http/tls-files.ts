import { readFileSync } from "node:fs";
import type { Log } from "../core/log.ts";
import type { ServerTls } from "./server-tls.ts";
import type { RunningServer } from "./server.ts";

/** Files in PEM; without a certificate there is no TLS. */
export interface TlsFiles {
  readonly cert?: string;
  readonly key?: string;
  readonly clientCa?: string;
}

export interface TlsRenewal {
  /** Takes over what the files hold now. */
  renew(): void;
  stop(): void;
}

interface RenewalParts {
  readonly server: RunningServer;
  readonly log: Log;
  /** Says when a file has changed. */
  readonly watch: (path: string, changed: () => void) => { close(): void };
}

/** What the files hold; `section` is that of the settings which name them, e.g. `relay.tls`. Throws `Error` for one that cannot be read. */
export function readTls({ cert, key, clientCa }: TlsFiles, section: string): ServerTls | undefined {
  if (cert === undefined || key === undefined) return undefined;
  return {
    cert: readPem(cert, `${section}.cert`),
    key: readPem(key, `${section}.key`),
    ...(clientCa === undefined ? {} : { clientCa: readPem(clientCa, `${section}.clientCa`) }),
  };
}

function readPem(path: string, setting: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new Error(`${setting}: the file ${path} cannot be read (${(error as NodeJS.ErrnoException).code})`, {
      cause: error,
    });
  }
}

/** Certificate and key are two files, which are replaced one after the other. */
const renewalPause = 1000;

/** Takes over a new certificate when its files change; one that cannot be used leaves the old one. */
export function renewTls(tls: TlsFiles, section: string, { server, log, watch }: RenewalParts): TlsRenewal {
  let pause: NodeJS.Timeout | undefined;
  const renew = (): void => {
    try {
      const read = readTls(tls, section);
      if (read === undefined) return;
      server.renewTls(read.cert, read.key);
      log.info({ cert: tls.cert }, "the new certificate is in use");
    } catch (error) {
      log.warn({ cert: tls.cert, error: String(error) }, "the new certificate cannot be used, and the old one stays");
    }
  };
  const changed = (): void => {
    clearTimeout(pause);
    pause = setTimeout(renew, renewalPause).unref();
  };
  const watches = [tls.cert, tls.key].flatMap((path) => (path === undefined ? [] : [watch(path, changed)]));
  return {
    renew,
    stop: () => {
      clearTimeout(pause);
      for (const one of watches) one.close();
    },
  };
}
