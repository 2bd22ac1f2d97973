import { busyManner, SteeredRuntime } from "./tunnel-runtime.ts";

// A busy runtime as a program of its own, to be killed: prints its address. Argument: the port, else any.
const runtime = await SteeredRuntime.start(busyManner(), Number(process.argv[2] ?? 0));
console.log(runtime.url);
