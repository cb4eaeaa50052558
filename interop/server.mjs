// A Socket.IO server with the Redis adapter. A process has one at a time: "open" starts it, "close" ends it.
import { createServer } from "node:http";
import { once } from "node:events";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { createClient, createCluster } from "redis";
import { Server } from "socket.io";
import { encode, push, serve } from "./control.mjs";
import { emissions, operator } from "./emission.mjs";

let io;
let http;
let redis; // {pub, sub, settle, end}
let leaving = false; // the server closes, and with it the connections to a Redis Cluster

// connectRedis makes the two connections that the adapter wants. settle returns when what the adapter subscribed to
// before is confirmed, which it does not wait for itself: commands of one connection are answered in their order.
// (In a Redis Cluster there is a connection for each master, and no telling.)
async function connectRedis({ client, url, cluster, sharded }) {
  let settled = 0;
  const noop = () => {};
  if (client === "ioredis") {
    const pub = new Redis(url, { retryStrategy: () => 100 });
    const sub = new Redis(url, { retryStrategy: () => 100 });
    for (const r of [pub, sub]) r.on("error", noop);
    const subscribe = sharded ? "ssubscribe" : "subscribe";
    return {
      pub,
      sub,
      settle: async () => {
        const channel = `settle-${settled++}`;
        await sub[subscribe](channel);
        await sub[sharded ? "sunsubscribe" : "unsubscribe"](channel);
      },
      end: async () => {
        pub.disconnect();
        sub.disconnect();
      },
    };
  }
  const pub = cluster
    ? createCluster({ rootNodes: cluster.map((url) => ({ url })) })
    : createClient({ url, socket: { reconnectStrategy: () => 100 } });
  const sub = pub.duplicate();
  for (const r of [pub, sub]) r.on("error", noop);
  await Promise.all([pub.connect(), sub.connect()]);
  return {
    pub,
    sub,
    settle: async () => {
      const channel = `settle-${settled++}`;
      await sub[sharded ? "sSubscribe" : "subscribe"](channel, noop);
      await sub[sharded ? "sUnsubscribe" : "unsubscribe"](channel);
    },
    end: () => Promise.all([pub.close(), sub.close()]), // when what was asked is answered
  };
}

// listen gives a namespace the behaviour that the tests count on, towards clients and towards other servers.
function listen(nsp, name) {
  nsp.use((socket, next) => next(socket.handshake.auth.refuse ? new Error(socket.handshake.auth.refuse) : undefined));
  nsp.on("connection", (socket) => {
    const { data, rooms } = socket.handshake.auth;
    if (data !== undefined) socket.data = data;
    if (rooms) socket.join(rooms);
    socket.onAny((event, ...args) => {
      const reply = typeof args.at(-1) === "function" ? args.pop() : undefined;
      push("received", { nsp: nsp.name, id: socket.id, event, args: encode(args) });
      if (event === "echo") reply?.(...args);
    });
  });
  for (const event of ["told", "fence"]) {
    nsp.on(event, (...args) => push("heard", { nsp: nsp.name, event, args: encode(args) }));
  }
  nsp.on("asked", (...args) => {
    const reply = args.pop();
    push("heard", { nsp: nsp.name, event: "asked", args: encode(args) });
    reply({ name, args });
  });
  nsp.on("silent", (...args) => {
    if (name !== args[0]) args.at(-1)(name); // every server but the one that is named answers
  });
}

const describe = ({ id, handshake, rooms, data }) => ({ id, handshake, rooms: [...rooms], data });

// remote finds a socket anywhere in the cluster, as an application would.
async function remote(target) {
  const [socket] = await io.of(target.nsp).in(target.to[0]).fetchSockets();
  if (!socket) throw new Error(`no socket ${target.to[0]}`);
  return socket;
}

// withAck calls emit with a callback for its last argument, and returns what the callback got.
const withAck = (emit) => new Promise((resolve) => emit((err, replies) => resolve({ error: err?.message, replies })));

// harmless: the adapter does not wait for what it unsubscribes from.
const harmless = (err) => leaving && /client is closed/i.test(err?.message);

serve({
  async open({ name, sharded, client, url, cluster, key, subscriptionMode, specific, requestsTimeout, namespaces }) {
    leaving = false;
    redis = await connectRedis({ client, url, cluster, sharded });
    const adapter = sharded
      ? createShardedAdapter(redis.pub, redis.sub, { channelPrefix: key, subscriptionMode })
      : createAdapter(redis.pub, redis.sub, { key, requestsTimeout, publishOnSpecificResponseChannel: specific });
    http = createServer();
    io = new Server(http, { adapter, allowEIO3: true });
    for (const nsp of namespaces) listen(io.of(nsp), name);
    await once(http.listen(0, "127.0.0.1"), "listening");
    await redis.settle();
    return http.address().port;
  },
  async close() {
    leaving = Array.isArray(redis.pub.masters);
    await new Promise((resolve) => io.close(resolve));
    await redis.settle().catch(() => {}); // what the adapters unsubscribed from
    await redis.end();
  },
  settle: () => redis.settle(),
  ...emissions((target) => (target.socket ? io.of(target.nsp).sockets.get(target.socket) : io.of(target.nsp))),
  broadcast: ({ target, event, args }) => {
    const socket = io.of(target.nsp).sockets.get(target.socket);
    operator(target.to?.length ? socket : socket.broadcast, target).emit(event, ...args);
  },
  emitAck: ({ target, event, args }) => withAck((cb) => operator(io.of(target.nsp), target).emit(event, ...args, cb)),
  fetch: async ({ target }) => (await operator(io.of(target.nsp), target).fetchSockets()).map(describe),
  socketJoin: async ({ target, rooms }) => {
    await io.of(target.nsp).sockets.get(target.socket).join(rooms);
    await redis.settle();
  },
  socketLeave: ({ target, rooms }) => {
    for (const room of rooms) io.of(target.nsp).sockets.get(target.socket).leave(room);
  },
  remoteEmit: async ({ target, event, args }) => void (await remote(target)).emit(event, ...args),
  remoteEmitAck: async ({ target, event, args }) => {
    const socket = await remote(target);
    return withAck((cb) => socket.timeout(target.timeout).emit(event, ...args, cb));
  },
  remoteJoin: async ({ target, rooms }) => void (await remote(target)).join(rooms),
  remoteLeave: async ({ target, rooms }) => {
    const socket = await remote(target);
    for (const room of rooms) socket.leave(room);
  },
  remoteDisconnect: async ({ target, close }) => void (await remote(target)).disconnect(close),
  serverSideEmitAck: ({ target, event, args }) => withAck((cb) => io.of(target.nsp).serverSideEmit(event, ...args, cb)),
  allRooms: async ({ target }) => [...(await io.of(target.nsp).adapter.allRooms())],
  count: ({ target }) => io.of(target.nsp).adapter.serverCount(),
  // pending is what the adapter still waits for.
  pending: ({ target }) => {
    const { requests, ackRequests } = io.of(target.nsp).adapter;
    return { questions: requests.size, acks: ackRequests.size };
  },
  // drained returns when the clients that are connected now are gone.
  drained: async () => {
    await Promise.all(Object.values(io.engine.clients).map((connection) => once(connection, "close")));
  },
}, harmless);
