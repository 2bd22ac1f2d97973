import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** Files of a certificate that signed itself, for 127.0.0.1 and localhost. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
  remove(): void;
}

/** Makes one with openssl; undefined where that is not installed. */
export function makeCertificate(): Certificate | undefined {
  const folder = mkdtempSync(path.join(tmpdir(), "lair-certificate-"));
  const remove = (): void => rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  const [cert, key] = [path.join(folder, "cert.pem"), path.join(folder, "key.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  try {
    execFileSync("openssl", ["req", "-x509", ...kind, ...subject, "-keyout", key, "-out", cert], { stdio: "ignore" });
    return { cert, key, remove };
  } catch {
    remove();
    return undefined;
  }
}
