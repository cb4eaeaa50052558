// Many real clients in one process, each known by a name.
import { Manager } from "socket.io-client";
import { encode, push, serve } from "./control.mjs";

const clients = new Map(); // name -> {socket, replies: Map of event -> arguments of the acknowledgement}

serve({
  // connect returns the socket's ID, or fails as the client was refused.
  connect: ({ name, port, nsp, auth, query }) =>
    new Promise((resolve, reject) => {
      // A manager of its own takes the name of the namespace as it is, where io() takes it for a part of a URL.
      const manager = new Manager(`http://127.0.0.1:${port}`, { transports: ["websocket"], reconnection: false, query });
      const socket = manager.socket(nsp, { auth });
      const client = { socket, replies: new Map() };
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
