// The control protocol of the processes that the tests start: JSON lines {id, op, args} on standard input, and on
// standard output {id, result} or {id, error} for each, and {push, ...} for what happens by itself. A process ends
// with its input.
import { createInterface } from "node:readline";

// encode makes JSON of any value: what JSON cannot say is an object with one key that begins with "$".
export function encode(v) {
  if (v === undefined || typeof v === "function" || typeof v === "symbol") return { $undef: 1 };
  if (typeof v === "bigint") return { $big: String(v) };
  if (Object.is(v, -0)) return { $num: "-0" };
  if (typeof v === "number" && !Number.isFinite(v)) return { $num: String(v) };
  if (v === null || typeof v !== "object") return v;
  if (v instanceof ArrayBuffer) return { $bin: Buffer.from(v).toString("base64") };
  if (ArrayBuffer.isView(v)) return { $bin: Buffer.from(v.buffer, v.byteOffset, v.byteLength).toString("base64") };
  if (v instanceof Date) return { $date: v.getTime() };
  if (Array.isArray(v)) return v.map(encode);
  if (v instanceof Set) return [...v].map(encode);
  return Object.fromEntries(Object.entries(v).map(([key, value]) => [key, encode(value)]));
}

export function decode(v) {
  if (v === null || typeof v !== "object") return v;
  if (Array.isArray(v)) return v.map(decode);
  if ("$undef" in v) return undefined;
  if ("$big" in v) return BigInt(v.$big);
  if ("$num" in v) return Number(v.$num);
  if ("$bin" in v) return Buffer.from(v.$bin, "base64");
  if ("$date" in v) return new Date(v.$date);
  return Object.fromEntries(Object.entries(v).map(([key, value]) => [key, decode(value)]));
}

function write(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

// push tells the tests what happened. Values of the application must have been encoded.
export function push(kind, what) {
  write({ push: kind, ...what });
}

// serve calls ops[op](args) for each line. Arguments and results may be values of any kind. What nobody catches is
// pushed as a crash, unless it is harmless.
export function serve(ops, harmless = () => false) {
  for (const crash of ["uncaughtException", "unhandledRejection"]) {
    process.on(crash, (err) => harmless(err) || push("crash", { error: `${crash}: ${err?.stack ?? err}` }));
  }
  const lines = createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const { id, op, args } = JSON.parse(line);
    try {
      write({ id, result: encode(await ops[op](decode(args))) });
    } catch (err) {
      write({ id, error: err?.message ?? String(err) });
    }
  });
  lines.on("close", () => process.exit());
}
