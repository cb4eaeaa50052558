// The Node.js contestant of bench/hotroom: one process publishes to one room of a Socket.IO cluster over the classic
// Redis adapter, another has one member of it. Role, config and results travel as between the Go processes.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { writeSync } from "node:fs";
import { Server } from "socket.io";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";

const config = JSON.parse(process.env.HOTROOM_CONFIG);
const total = config.WarmUp + config.Messages;

const pub = createClient({ url: config.URL });
const sub = pub.duplicate();
await Promise.all([pub.connect(), sub.connect()]);
const io = new Server(createServer(), { adapter: createAdapter(pub, sub, { key: "hotroom" }) });

function used() {
  const { user, system } = process.cpuUsage();
  return { Seconds: performance.now() / 1e3, CPU: (user + system) / 1e6 };
}

function finish(began) {
  const now = used();
  writeSync(3, JSON.stringify({ Seconds: now.Seconds - began.Seconds, CPU: now.CPU - began.CPU, Mallocs: 0 }));
  process.exit(0);
}

// receive has a member whose transport only counts: what Socket.IO hands to it is encoded as for a real one.
async function receive() {
  let count = 0;
  let told = 0;
  let began;
  const tell = () => {
    told = count;
    writeSync(1, `${count}\n`);
  };
  const client = {
    writeToEngine([packet]) {
      const n = Number(packet.slice(packet.indexOf(',"') + 2, packet.indexOf(',"') + 18));
      if (n !== count) {
        console.error(`message ${n} came where ${count} was due`);
        process.exit(1);
      }
      count++;
      if (count === config.WarmUp) began = used();
      if (count === total) {
        tell();
        finish(began);
      }
      if (count - told >= config.Window / 8 || count === config.WarmUp) tell();
    },
  };
  const nsp = io.of("/");
  nsp.sockets.set("member", { client, notifyOutgoingListeners() {} });
  await nsp.adapter.addAll("member", new Set(["hot"]));
  while ((await nsp.adapter.serverCount()) < 1) await new Promise((r) => setTimeout(r, 10));
  tell(); // ready
}

async function publish() {
  let arrived = -1;
  let wake = () => {};
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    arrived = Number(line);
    wake();
  });
  const until = async (n) => {
    while (arrived < n) await new Promise((r) => (wake = r));
  };
  const filler = "x".repeat(Math.max(config.Size - 16, 0));
  const send = async (from, to) => {
    for (let i = from; i < to; i++) {
      if (i + 1 - arrived > config.Window) await until(i + 1 - config.Window);
      io.to("hot").emit("roomMessage", String(i).padStart(16, "0") + filler);
      if (i % 256 === 255) await new Promise(setImmediate); // node-redis writes what one turn of the loop has queued
    }
    await until(to);
  };
  await until(0); // ready
  await send(0, config.WarmUp);
  const began = used();
  await send(config.WarmUp, total);
  finish(began);
}

await (process.env.HOTROOM_ROLE === "receiver" ? receive() : publish());
