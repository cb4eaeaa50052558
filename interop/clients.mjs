// Many real clients in one process, each known by a name.
import { Manager } from "socket.io-client";
import { WebSocket } from "ws";
import { encode, push, serve } from "./control.mjs";

const clients = new Map(); // name -> {socket, manager, replies: Map of event -> arguments of the acknowledgement}

// connectOld is a client of version 2 (protocol EIO 3), which only listens. It returns the ID that the socket has
// on its server.
const connectOld = ({ name, port, nsp }) =>
  new Promise((resolve, reject) => {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/socket.io/?EIO=3&transport=websocket`);
    const prefix = nsp === "/" ? "" : nsp + ",";
    let sid;
    clients.set(name, { socket: { disconnect: () => ws.close() } });
    ws.on("message", (data) => {
      const text = data.toString();
      if (text[0] === "0") sid = JSON.parse(text.slice(1)).sid;
      if (text === "40" && prefix) return ws.send("40" + prefix);
      if (text.startsWith("40")) resolve(prefix ? `${nsp}#${sid}` : sid);
      if (text.startsWith("42" + prefix)) {
        const [event, ...args] = JSON.parse(text.slice(2 + prefix.length));
        push("event", { client: name, event, args: encode(args) });
      }
    });
    ws.on("error", reject);
    ws.on("close", () => push("disconnect", { client: name, reason: "closed" }));
  });

serve({
  connectOld,
  // connect returns the socket's ID, or fails as the client was refused. beside names a client whose
  // connection is shared.
  connect: ({ name, port, nsp, auth, query, beside }) =>
    new Promise((resolve, reject) => {
      // A manager of its own takes the name of the namespace as it is, where io() takes it for a part of a URL.
      const manager =
        clients.get(beside)?.manager ??
        new Manager(`http://127.0.0.1:${port}`, { transports: ["websocket"], reconnection: false, query });
      const socket = manager.socket(nsp, { auth });
      const client = { socket, manager, replies: new Map() };
      clients.set(name, client);
      socket.on("connect", () => resolve(socket.id));
      socket.on("connect_error", (err) => {
        socket.disconnect();
        reject(err);
      });
      socket.on("disconnect", (reason) => push("disconnect", { client: name, reason }));
      socket.onAny((event, ...args) => {
        const reply = typeof args.at(-1) === "function" ? args.pop() : undefined;
        push("event", { client: name, event, args: encode(args) });
        if (reply && client.replies.has(event)) reply(...client.replies.get(event));
      });
    }),
  // hurry connects to a namespace over another client's connection, leaves before the answer, which it says to nobody,
  // and comes back: at once, or when the answer has come. It returns the socket's ID, and what its server says then.
  hurry: ({ nsp, beside, atOnce }) =>
    new Promise((resolve) => {
      const other = clients.get(beside);
      const socket = other.manager.socket(nsp, { auth: { token: "1" } });
      socket.disconnect();
      socket.auth = { token: "2" };
      socket.on("connect", () => socket.emit("echo", socket.id, (id) => id === socket.id && resolve(id)));
      if (atOnce) socket.connect();
      else other.socket.emit("echo", () => socket.connect());
    }),
  // reply makes a client acknowledge an event from now on; without it, it is silent.
  reply: ({ name, event, args }) => void clients.get(name).replies.set(event, args),
  emit: ({ name, event, args }) => void clients.get(name).socket.emit(event, ...args),
  emitAck: ({ name, event, args }) =>
    new Promise((resolve) => clients.get(name).socket.emit(event, ...args, (...reply) => resolve(reply))),
  disconnect: ({ name }) => {
    clients.get(name).socket.disconnect();
    clients.delete(name);
  },
});
