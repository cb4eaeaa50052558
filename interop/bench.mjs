// The Node.js contestants of bench: one process publishes to one room of a Socket.IO cluster over a Redis adapter, another
// has one member of it. The name of the contestant says which adapter, and which client of Redis. It speaks the protocol of bench's other processes: its config is in the environment, each
// line of its input is answered with a line of JSON, and by descriptor 3 the publisher learns what has arrived.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { createReadStream, writeSync } from "node:fs";
import { Server } from "socket.io";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { createClient } from "redis";

const config = JSON.parse(process.env.CROSSCAST_BENCH);
const room = `${config.Run}-000000`;

const sharded = config.Contestant === "nodejs-sharded";
const url = `redis://${config.Redis}`;
const pub = config.Contestant === "nodejs-ioredis" ? new Redis(url) : createClient({ url });
const sub = pub.duplicate();
await Promise.all([pub, sub].map((client) => (client instanceof Redis ? client.ping() : client.connect())));
const adapter = sharded
  ? createShardedAdapter(pub, sub, { channelPrefix: config.Run, subscriptionMode: "dynamic" })
  : createAdapter(pub, sub, { key: config.Run });
const io = new Server(createServer(), { adapter });

let count = 0;
let failure = "";
let latencies = [];
const answer = (fields) => writeSync(1, `${JSON.stringify({ Error: failure, Count: count, ...fields })}\n`);
const now = () => (performance.timeOrigin + performance.now()) * 1e6; // nanoseconds
const hex = (n) => Math.floor(n).toString(16).padStart(16, "0");

function sample() {
  const { user, system } = process.cpuUsage();
  const fields = { At: Math.floor(now()), CPU: (user + system) / 1e6 };
  if (latencies.length > 0) {
    const all = latencies.sort((a, b) => a - b);
    latencies = [];
    const at = (q) => all[Math.floor(q * (all.length - 1))] / 1e3;
    fields.Values = { p50: at(0.5), p99: at(0.99) };
  }
  return fields;
}

// receive has a member whose transport only counts: what Socket.IO hands to it is encoded as for a real one.
async function receive() {
  let told = 0;
  const client = {
    writeToEngine([packet]) {
      const at = packet.indexOf("~~") + 2;
      const n = Number.parseInt(packet.slice(at, at + 16), 16);
      if (n !== count) failure ||= `message ${n} came where ${count} was due`;
      if (config.Stamp) latencies.push(now() - Number(`0x${packet.slice(at + 16, at + 32)}`));
      count++;
      if (count - told >= config.Window / 8) {
        told = count;
        writeSync(3, `${count}\n`);
      }
    },
  };
  const nsp = io.of("/");
  nsp.sockets.set("member", { client, notifyOutgoingListeners() {} });
  await nsp.adapter.addAll("member", new Set([room]));
  const hears = async () => {
    if (!sharded) return (await nsp.adapter.serverCount()) >= 1;
    return (await pub.sendCommand(["PUBSUB", "SHARDCHANNELS"])).some((name) => name.includes(room));
  };
  while (!(await hears())) await new Promise((r) => setTimeout(r, 10));
}

let arrived = 0;
let wake = () => {};
let stopped = false;

// publish sends until it is stopped.
async function publish() {
  const filler = "x".repeat(Math.max(config.Size - 34, 0));
  const began = performance.now();
  while (!stopped) {
    if (config.Rate > 0) {
      const wait = began + (count / config.Rate) * 1e3 - performance.now();
      if (wait > 0) await new Promise((r) => setTimeout(r, wait));
    }
    while (!stopped && count + 1 - arrived > config.Window) await new Promise((r) => (wake = r));
    io.to(room).emit("roomMessage", `~~${hex(count)}${hex(config.Stamp ? now() : 0)}${filler}`);
    count++;
    if (config.Rate > 0 || count % 256 === 0) await new Promise(setImmediate); // node-redis writes what one turn of the loop has queued
  }
}

if (config.Role === "receiver") {
  await receive();
} else {
  createInterface({ input: createReadStream("", { fd: 3 }) }).on("line", (line) => {
    arrived = Number(line);
    wake();
  });
}
answer({});

let publishing;
const lines = createInterface({ input: process.stdin });
lines.on("close", () => process.exit(0));
lines.on("line", async (line) => {
  if (line === "go") publishing = publish();
  if (line === "stop") {
    stopped = true;
    wake();
    await publishing;
  }
  answer(line === "sample" ? sample() : {});
});
