// A llama-server as far as its supervision sees it: its flags, its key, its health, its answers, and ways to fail.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";

const flag = (name) => process.argv[process.argv.indexOf(name) + 1];
const failing = process.argv.includes("--failing") ? flag("--failing") : "";
const key = readFileSync(flag("--api-key-file"), "utf8");
if (failing === "load") {
  process.stderr.write("0.00.123 E llama_model_load: error: tensor 'blk.0.attn_q.weight' is missing\n");
  process.exit(1);
}
if (failing === "port" && !existsSync(flag("--mark"))) {
  writeFileSync(flag("--mark"), "");
  process.stderr.write(`E srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: ${flag("--port")}\n`);
  process.exit(1);
}
if (failing === "deaf") process.on("SIGTERM", () => process.stderr.write("not now\n"));

let looks = 0;
const server = createServer((request, response) => {
  const json = (status, value) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(value));
  };
  if (request.url === "/health") {
    looks += 1;
    return looks < 3 ? json(503, { error: { message: "Loading model" } }) : json(200, { status: "ok" });
  }
  if (request.headers.authorization !== `Bearer ${key}`) return json(401, { error: { message: "Invalid API Key" } });
  let text = "";
  request.on("data", (chunk) => (text += chunk));
  request.on("end", () => {
    const body = JSON.parse(text);
    const said = JSON.stringify(body.messages ?? "");
    if (said.includes("crash now")) {
      process.stderr.write("ggml_abort: GGML_ASSERT(n_tokens > 0) failed\n");
      process.kill(process.pid, "SIGABRT");
      return;
    }
    const delta = (content, finish = null) =>
      response.write(
        `data: ${JSON.stringify({ id: "x", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta: { content }, finish_reason: finish }] })}\n\n`,
      );
    if (body.stream === true) {
      response.writeHead(200, { "content-type": "text/event-stream" });
      delta(`process ${process.pid}`);
      delta("", "stop");
      response.end("data: [DONE]\n\n");
      return;
    }
    const message = { role: "assistant", content: `process ${process.pid}` };
    json(200, {
      id: "x",
      object: "chat.completion",
      created: 1,
      model: "m",
      choices: [{ index: 0, message, finish_reason: "stop" }],
      usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
    });
  });
});
server.listen(Number(flag("--port")), flag("--host"), () => process.stderr.write("listening\n"));
