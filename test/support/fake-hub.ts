import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** How the fake hub misbehaves. */
export interface Moods {
  /** Connections that are cut after this many bytes of a file, before all is well. */
  cuts?: { readonly times: number; readonly after: number };
  /** Bytes of a part after which nothing more comes. */
  stall?: number;
  /** No ranges: every file comes whole. */
  whole?: boolean;
  /** Byte that is sent wrong. */
  wrongByte?: number;
  /** Wanted as a Bearer token. */
  token?: string;
}

/** A hub with one repository, `user/repo`, on a port of its own; files come from another origin, as with the real one. */
export class FakeHub {
  readonly moods: Moods = {};
  /** Requests for bytes of files: the `range` header of each. */
  readonly ranges: string[] = [];
  /** Headers that the file server saw. */
  readonly fileHeaders: IncomingMessage["headers"][] = [];
  readonly #files: ReadonlyMap<string, Buffer>;
  readonly #hub: Server;
  readonly #store: Server;

  private constructor(files: Readonly<Record<string, Buffer>>) {
    this.#files = new Map(Object.entries(files));
    this.#hub = createServer((request, response) => this.#answer(request, response));
    this.#store = createServer((request, response) => this.#give(request, response));
  }

  static async start(files: Readonly<Record<string, Buffer>>): Promise<FakeHub> {
    const fake = new FakeHub(files);
    await Promise.all(
      [fake.#hub, fake.#store].map((server) => new Promise<void>((done) => server.listen(0, "127.0.0.1", done))),
    );
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#hub.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    await Promise.all(
      [this.#hub, this.#store].map((server) => {
        server.closeAllConnections();
        return new Promise((done) => server.close(done));
      }),
    );
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(request.url ?? "/", this.url);
    const { token } = this.moods;
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
      // Hugging Face says so for gated repositories and for those that do not exist.
      response.writeHead(401, { "content-type": "application/json" }).end('{"error":"Invalid username or password."}');
      return;
    }
    if (/^\/api\/models\/user\/repo\/revision\/main$/.test(pathname) && searchParams.get("blobs") === "true") {
      const siblings = [...this.#files].map(([rfilename, bytes]) => ({
        rfilename,
        size: bytes.length,
        blobId: "0".repeat(40),
        ...(rfilename.endsWith(".gguf")
          ? { lfs: { sha256: sha256(bytes), size: bytes.length, pointerSize: 135 } }
          : {}),
      }));
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ id: "user/repo", sha: "c".repeat(40), siblings }));
      return;
    }
    if (pathname === "/api/v1/models/user/repo/repo/files") {
      const Files = [...this.#files].map(([Path, bytes]) => ({
        Path,
        Size: bytes.length,
        Sha256: sha256(bytes),
        Type: "blob",
      }));
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ Code: 200, Data: { Files }, Success: true }));
      return;
    }
    const file = /^\/(?:models\/)?user\/repo\/resolve\/[^/]+\/(.+)$/.exec(pathname)?.[1];
    if (file === undefined) {
      response.writeHead(404, { "content-type": "application/json" }).end('{"error":"Repository not found"}');
      return;
    }
    const { port } = this.#store.address() as AddressInfo;
    response.writeHead(302, { location: `http://127.0.0.1:${port}/${file}?signature=abc` }).end();
  }

  #give(request: IncomingMessage, response: ServerResponse): void {
    const { moods } = this;
    this.fileHeaders.push(request.headers);
    const bytes = this.#files.get(decodeURIComponent(new URL(request.url ?? "/", this.url).pathname.slice(1)));
    if (bytes === undefined) return void response.writeHead(404).end("no such file");
    const content = Buffer.from(bytes);
    if (moods.wrongByte !== undefined) content[moods.wrongByte] = (content[moods.wrongByte] ?? 0) ^ 1;
    const { range } = request.headers;
    this.ranges.push(range ?? "");
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range ?? "") ?? [];
    const part = from === undefined || moods.whole === true ? content : content.subarray(Number(from), Number(to) + 1);
    const whole = part.length === content.length;
    response.writeHead(whole && moods.whole === true ? 200 : 206, {
      "content-length": part.length,
      ...(moods.whole === true ? {} : { "content-range": `bytes ${from}-${to}/${content.length}` }),
    });
    if (moods.stall !== undefined) return void response.write(part.subarray(0, moods.stall));
    if (moods.cuts === undefined || moods.cuts.times === 0) return void response.end(part);
    moods.cuts = { ...moods.cuts, times: moods.cuts.times - 1 };
    response.write(part.subarray(0, moods.cuts.after), () => response.destroy());
  }
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
