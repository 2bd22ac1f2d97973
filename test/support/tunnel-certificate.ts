import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** Files of a certificate that signed itself. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
  remove(): void;
}

/** Makes one with openssl, for these addresses and localhost; undefined where openssl is not installed. */
export function makeCertificate(...addresses: readonly string[]): Certificate | undefined {
  const folder = mkdtempSync(path.join(tmpdir(), "lair-certificate-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  const [cert, key] = [path.join(folder, "cert.pem"), path.join(folder, "key.pem")];
  const names = ["127.0.0.1", ...addresses].map((address) => `IP:${address}`);
  const subject = ["-subj", "/CN=localhost", "-addext", `subjectAltName=${["DNS:localhost", ...names].join()}`];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  try {
    execFileSync("openssl", ["req", "-x509", ...kind, ...subject, "-keyout", key, "-out", cert], { stdio: "ignore" });
    return { cert, key, remove };
  } catch {
    remove();
    return undefined;
  }
}
