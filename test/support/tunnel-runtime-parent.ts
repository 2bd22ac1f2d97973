import { busyManner, SteeredRuntime } from "./tunnel-runtime.ts";

// A busy runtime as a program of its own, to be killed: prints its address. Arguments: port and host to listen on.
const [port = "0", host] = process.argv.slice(2);
const runtime = await SteeredRuntime.start(busyManner(), Number(port), host);
console.log(runtime.url);
