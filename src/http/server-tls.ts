/** PEM texts. */
export interface ServerTls {
  /** The certificate and those between it and its authority. */
  readonly cert: string;
  readonly key: string;
  /** Clients are asked for a certificate of this authority; who has none is served all the same, and `authorized` on the socket tells. */
  readonly clientCa?: string;
}

/** What node's TLS takes. */
export function toTlsSettings({ cert, key, clientCa }: ServerTls): object {
  const secure = { cert, key, minVersion: "TLSv1.2" };
  return clientCa === undefined ? secure : { ...secure, ca: clientCa, requestCert: true, rejectUnauthorized: false };
}
