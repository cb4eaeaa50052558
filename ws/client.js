// A websocket client for crosscast's Go package ws. It stays connected, and has no dependencies. The file is a plain
// script, and a module as well. As client.mjs, ws.ClientJS serves it with a line that exports its names.
//
//   <script src="/client.js"></script>  or  import "/client.js";     and then  const { Client } = crosscast;
//   import { Client } from "/client.mjs";
//
//   const client = new Client("/ws", {
//     onconnect: client => client.request("join", "room1"),  // each time: a new connection is in no room
//     ongap: (client, since, until) => {},                   // Dates: emissions between them might be missing
//   });
//   client.on("said", text => {});              // the result, or its promise, replies to an acknowledged emission
//   client.emit("say", "hello");                // throws if there is no connection; nothing is kept for later
//   const answer = await client.request("say", "hello", {timeout: 5000});
//   client.close();
//
// Events are handled in the order in which they were sent. Events of a new connection come after onconnect and ongap. A
// handler that waits does not hold up the next one. since is two seconds before the last message of the lost connection,
// or the beginning of that connection, if that is later. When the browser reports that the network is back ("online"), or
// that the page is visible again, the next attempt is made at once.
// Further options: events ({name: handler}); ondisconnect(client, reason), onretry(client, reason, wait),
// onerror(client, event, error); in ms: minBackoff, maxBackoff, dialTimeout, requestTimeout; WebSocket, the class.
// Errors are of class ClientError. Nothing is sent twice. The code of an error is one of:
//   "not connected"  nothing was sent
//   "timeout"        no reply came in time
//   "closed"         close was called
//   "remote"         the server replied with an error
//   "uncertain"      the connection was lost before the reply; the server might have handled the event
(() => {
  "use strict";

  const inFlight = 2000; // ms, the assumed travel time of a message from the server

  class ClientError extends Error {
    constructor(code, message = code) {
      super(message);
      this.name = "ClientError";
      this.code = code;
    }
  }

  class Client {
    #url;
    #options;
    #handlers = new Map();
    #waiting = new Map(); // requests of the present connection, by ID
    #last = 0;            // ID of the newest request
    #socket = null;       // the present connection
    #end = () => {};      // ends the present connection, or attempt
    #timer;               // of the next attempt
    #backoff;
    #since = 0;           // when the gap of the previous connection begins, in ms; 0: there was none
    #closed = false;
    #retry = () => {      // makes the next attempt now, unless the page is hidden
      if (this.#timer === undefined || globalThis.document?.visibilityState === "hidden") return;
      clearTimeout(this.#timer);
      this.#connect();
    };

    constructor(url, options = {}) {
      this.#url = new URL(url, globalThis.location?.href);
      this.#url.protocol = this.#url.protocol.replace("http", "ws");
      this.#options = {
        minBackoff: 250, maxBackoff: 10000, dialTimeout: 10000, requestTimeout: 10000,
        onerror: (client, event, error) => console.error(`crosscast: ${event}:`, error), ...options,
      };
      for (const [event, handler] of Object.entries(options.events ?? {})) this.on(event, handler);
      this.#backoff = this.#options.minBackoff;
      globalThis.addEventListener?.("online", this.#retry);
      globalThis.document?.addEventListener("visibilitychange", this.#retry);
      this.#connect();
    }

    on(event, handler) {
      this.#handlers.set(event, handler);
      return this;
    }

    get connected() { return this.#socket?.readyState === 1; }

    emit(event, data) { this.#send({event, data}); }

    request(event, data, {timeout = this.#options.requestTimeout} = {}) {
      return new Promise((resolve, reject) => {
        const id = ++this.#last;
        this.#send({event, data, id}); // an exception rejects the promise
        const timer = setTimeout(() => this.#settle(id, w => w.reject(new ClientError("timeout"))), timeout);
        this.#waiting.set(id, {resolve, reject, timer});
      });
    }

    close() {
      if (this.#closed) return;
      this.#closed = true;
      clearTimeout(this.#timer);
      globalThis.removeEventListener?.("online", this.#retry);
      globalThis.document?.removeEventListener("visibilitychange", this.#retry);
      this.#end("closed");
    }

    #send(message) {
      if (this.#closed) throw new ClientError("closed");
      if (!this.connected) throw new ClientError("not connected");
      this.#socket.send(JSON.stringify(message));
    }

    // settle ends a request. A reply for which nobody waits is no mistake of the server.
    #settle(id, how) {
      const waiting = this.#waiting.get(id);
      if (!waiting) return;
      this.#waiting.delete(id);
      clearTimeout(waiting.timer);
      how(waiting);
    }

    // call calls a hook. Its exceptions must not stop the client.
    #call(hook, ...args) {
      try {
        this.#options[hook]?.(this, ...args);
      } catch (error) {
        console.error(`crosscast: ${hook}:`, error);
      }
    }

    #connect() {
      this.#timer = undefined;
      const options = this.#options, began = Date.now();
      const socket = new (options.WebSocket ?? WebSocket)(this.#url.href);
      let opened = 0, heard = 0, held = []; // events wait until onconnect is done
      const end = reason => {
        if (this.#end !== end) return; // it has ended
        this.#end = () => {};
        clearTimeout(dial);
        socket.onopen = socket.onmessage = socket.onclose = null;
        socket.close(1000);
        this.#socket = null;
        const joined = !held;
        if (joined) this.#since = Math.max(opened, heard - inFlight);
        const code = this.#closed ? "closed" : "uncertain";
        for (const id of [...this.#waiting.keys()]) this.#settle(id, w => w.reject(new ClientError(code)));
        if (this.#closed) return;
        if (joined && Date.now() - began > options.maxBackoff) this.#backoff = options.minBackoff;
        // Jitter, so that the clients of a restarted server do not come back all at once.
        const wait = this.#backoff / 2 * (1 + Math.random());
        this.#backoff = Math.min(2 * this.#backoff, options.maxBackoff);
        this.#timer = setTimeout(() => this.#connect(), wait);
        if (joined) this.#call("ondisconnect", reason);
        else this.#call("onretry", reason, wait);
      };
      this.#end = end;
      const dial = setTimeout(() => end("no answer"), options.dialTimeout);
      socket.onclose = e => end(e.reason || (heard ? "" : "cannot connect"));
      socket.onopen = async () => {
        clearTimeout(dial);
        opened = heard = Date.now();
        this.#socket = socket;
        try {
          await options.onconnect?.(this);
        } catch (error) {
          return end(error?.message ?? String(error));
        }
        if (this.#end !== end) return; // lost meanwhile
        const waited = held;
        held = null;
        if (this.#since) this.#call("ongap", new Date(this.#since), new Date(Date.now()));
        for (const m of waited) this.#handle(socket, m);
      };
      socket.onmessage = e => {
        heard = Date.now();
        let m;
        try {
          m = JSON.parse(e.data);
        } catch (error) {
          return this.#call("onerror", "", error);
        }
        if (m?.event && held) held.push(m);
        else if (m?.event) this.#handle(socket, m);
        else if (m?.error !== undefined) this.#settle(m.id, w => w.reject(new ClientError("remote", m.error)));
        else this.#settle(m?.id, w => w.resolve(m.data));
      };
    }

    // handle handles an event, and replies if the server waits for a reply.
    async #handle(socket, {event, data, id}) {
      const handler = this.#handlers.get(event);
      if (!handler && !id) return;
      let answer;
      try {
        if (!handler) throw new ClientError("no handler");
        answer = await handler(data);
        answer = JSON.stringify({id, data: answer});
      } catch (error) {
        if (handler) this.#call("onerror", event, error);
        answer = JSON.stringify({id, error: String(error?.message || error || "failed")});
      }
      if (id && socket.readyState === 1) socket.send(answer);
    }
  }

  globalThis.crosscast = {Client, ClientError};
})();
