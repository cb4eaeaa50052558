// A websocket client for crosscast's Go package ws. It stays connected, and has no dependencies. The file is a plain
// script, and a module as well. As client.mjs, ws.ClientJS serves it with a line that exports its names.
//
//   <script src="/client.js"></script>  or  import "/client.js";     and then  const { Client } = crosscast;
//   import { Client } from "/client.mjs";
//
//   const client = new Client("/ws", {
//     refetch: async (client, gap) => {},       // fetch what might be missing in gap.room since gap.since
//   });
//   await client.join("room1");                 // and again after each reconnect, until leave
//   client.on("said", text => {});              // the result, or its promise, replies to an acknowledged emission
//   client.emit("say", "hello");                // throws if there is no connection; nothing is kept for later. An error
//                                               // of the server is an event "error": without a handler, it goes to onerror
//   const answer = await client.request("say", "hello", {timeout: 5000});
//   await client.leave("room1");
//   client.close();
//
// join waits for a connection if there is none, or if it is lost before the reply; without a timeout it waits until
// close. A room that was joined is kept: it is in client.rooms, and joined again on each later connection. If the
// server refuses that, onjoinerror(client, room, error) is called, and the room is not kept any more. If it does not
// answer for requestTimeout, the connection is closed. If it cannot decide now ("retry"), the client asks again after a
// pause, which grows from minBackoff to maxBackoff; meanwhile ongap gets a gap of the room that goes on. Of calls of
// join and leave the last one counts.
//
// Events are handled in the order in which they were sent. Events of a new connection come after onconnect, the joins
// of kept rooms, and ongap. A handler that waits does not hold up the next one. When the browser reports that the
// network is back ("online"), or that the page is visible again, the next attempt is made at once.
// client.state is "connecting" until the rooms are joined, then "connected"; "waiting" before the next attempt; at last
// "closed" or "gave up". onstate(client, state) is called after each change. After a failed attempt or a lost
// connection, giveUp(client, reason, code) decides whether the client stops for good, by the websocket's close code. By
// default it does for 4001. Then ongiveup(client, reason) is called.
// Without a connection, emit and request fail at once. With the option awayBytes, requests of up to as many bytes wait
// for the next connection, within their timeouts; each counts as its JSON and 256 bytes more.
//
// A gap is a time in which emissions might be missing: {room, since, until, away, wait}. room is the room concerned, or
// "" for everything. since and until are Dates by this clock; until is null if the gap goes on, and another gap of the
// room follows when it ends. If the connection is lost first, the gap of the absence begins with it. away is true if there was no connection, and false if the server missed something or this
// client was too slow. wait is how many ms to wait before asking the server, drawn at random, so that not all clients
// ask at once: while away, from 0 to gapSpread (1000); otherwise the server tells the window. ongap(client, gap) is
// called at once, in the place of the missing events. refetch(client, gap) is called after gap.wait, while there is a
// connection, for gaps that have ended; further gaps of the room that come before become part of it. If its promise fails, which goes to onerror
// with the event "refetch", it is called again after a pause that grows from minBackoff to maxBackoff. since is two
// seconds earlier than the server reports. While away it is gapMargin (6000 ms) earlier than the last message of the lost
// connection, but not earlier than that connection: the server notices what it misses within four heartbeats (of 1 s).
//
// With the option stream, the client falls back to server-sent events where websockets are blocked, for servers with Go's
// package sse: stream is their URL, or true for the same one. It does so when no websocket has opened within streamAfter
// (4000 ms), or cannot be made, or after three attempts if one had opened before. From a stream it tries a websocket again each streamRetry
// (60000 ms) and on "online", and changes over once that has opened: as after a lost connection, with a gap.
// client.transport is "websocket", "stream" or "".
//
// An ArrayBuffer, or a view of one, is sent as bytes: as data of emit and request, and as a handler's result. Bytes come as a
// Uint8Array. Both need the subprotocol crosscast.json.1, which the client offers; it is the option protocols. With a server that
// does not know it, protocols must be []: then bytes are strings in base64, as they are within other values. A Blob or a File
// is a TypeError: send await blob.arrayBuffer().
//
// A message of more than writeLimit bytes (1 MiB, which is also the server's default) is refused with "too large": emit throws
// and request rejects, nothing was sent, and the connection goes on. On a stream the limit is the one that the server tells
// (64 KiB by default), where bytes count as base64. If a proxy takes less than that, onerror gets the error of an emit.
//
// client.presence(room, onsync) tells who is in a room that the client is in, if the server opens it (AllowPresence):
//   const stop = client.presence("room1", ({members, count, joined, changed, left}) => show(members));
// members is a Map of users and what they show; it is null if there are too many, and count says how many. joined, changed
// and left are the users in which it differs from the call before: at first everybody has joined. After a reconnect or a gap
// all members come again: onsync is called with the difference, which might be none. The client must be in the room first: by
// join, which the wish follows on each connection, or because the server puts it there (Rooms of ws.Client). If the server
// refuses the wish, onerror gets that with the event "presence", and the client asks again after the next join or reconnect.
//
// Further options: events ({name: handler}); onconnect(client), whose promise is waited for, for example to log in;
// ondisconnect(client, reason), onretry(client, reason, wait), onerror(client, event, error); in ms: minBackoff,
// maxBackoff, dialTimeout, requestTimeout; in bytes: writeLimit; WebSocket, the class. client.d.ts has the types.
// Errors are of class ClientError. No event is sent twice. The code of an error is one of:
//   "not connected"  nothing was sent
//   "timeout"        no reply came in time
//   "closed"         close was called
//   "gave up"        the client has given up; the message is the reason
//   "remote"         the server replied with an error
//   "uncertain"      the connection was lost before the reply; the server might have handled the event
//   "left"           leave was called while join waited
//   "too large"      the message is too large, and was not sent
(() => {
  "use strict";

  const inFlight = 2000; // ms, the assumed travel time of a message from the server
  const maxRejoins = 100; // joins of a new connection that may wait for their replies at once
  const maxRefetches = 1000; // gaps that may wait; a gap of a further room counts as one of everything

  class ClientError extends Error {
    constructor(code, message = code, retry = false) { // retry: a join that has failed only for now
      super(message);
      Object.assign(this, {name: "ClientError", code, retry});
    }
  }

  // settleCalls ends calls that wait.
  function settleCalls(calls, how) {
    for (const call of calls) {
      clearTimeout(call.timer);
      how(call);
    }
    calls.clear();
  }

  const withBytes = "crosscast.json.1"; // the subprotocol: see the documentation of Go's package ws

  // bytesOf returns the bytes of an ArrayBuffer or a view of one; undefined: v is something else.
  function bytesOf(v) {
    if (ArrayBuffer.isView(v)) return new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
    return v instanceof ArrayBuffer ? new Uint8Array(v) : undefined;
  }

  function base64(bytes) { return btoa(Array.from(bytes, b => String.fromCharCode(b)).join("")); }

  // stringify is for JSON, which would make {} of a Blob, and an object of an array of bytes.
  function stringify(message) {
    return JSON.stringify(message, function (key, v) {
      if (globalThis.Blob && v instanceof Blob) throw new TypeError("a Blob or File cannot be sent: send await blob.arrayBuffer()");
      const bytes = bytesOf(this[key]);
      return bytes ? base64(bytes) : v;
    });
  }

  // send sends a message. refused is called with an error if it turns out later that it is too large.
  function send(socket, message, limit, refused) {
    const data = encode(socket, message), stream = socket instanceof Stream, most = stream ? socket.limit : limit;
    let size = data.length;
    if (3 * size > most && typeof data === "string") size = new TextEncoder().encode(data).length;
    if (size > most) throw new ClientError("too large", `too large: ${size} bytes (at most ${most})`);
    stream ? socket.send(data, refused) : socket.send(data);
  }

  // encode makes a message for a socket.
  function encode(socket, message) {
    const bytes = bytesOf(message.data);
    if (!bytes || socket.protocol !== withBytes) return stringify(message);
    const text = JSON.stringify({...message, data: undefined});
    const head = new TextEncoder().encode(text + "\0"), all = new Uint8Array(head.length + bytes.length);
    all.set(head);
    all.set(bytes, head.length);
    return socket instanceof Stream ? "=" + base64(all) : all;
  }

  function decode(data) {
    if (typeof data === "string") return JSON.parse(data);
    const all = new Uint8Array(data), end = all.indexOf(0);
    if (end < 0) throw new Error("malformed bytes");
    return {...JSON.parse(new TextDecoder().decode(all.subarray(0, end))), data: all.slice(end + 1)};
  }

  // A Stream is like a WebSocket, but messages come as server-sent events, and go as POSTs.
  class Stream {
    readyState = 0;
    protocol = "";
    onopen = null;
    onmessage = null;
    onclose = null;
    #url;
    #accept;
    #abort = new AbortController();
    #hello = {};      // {token, limit, alive, protocol}
    #waiting = [];    // {text, refused}: messages to be sent
    #posting = false;
    #closing = false; // once the waiting messages are sent
    #timer;           // ends a stream that is silent

    constructor(url, protocols) {
      this.#url = url;
      this.#accept = "text/event-stream" + (protocols.includes(withBytes) ? `;protocol=${withBytes}` : "");
      this.#read().catch(() => {}).then(() => this.#end(1006, ""));
    }

    get limit() { return this.#hello.limit; }

    send(text, refused) {
      this.#waiting.push({text, refused});
      if (!this.#posting) this.#post();
    }

    close() {
      this.#closing = true;
      if (!this.#posting) this.#end(1000, "");
    }

    #fetch(options) {
      return fetch(this.#url, {cache: "no-store", credentials: "include", signal: this.#abort.signal, ...options});
    }

    #end(code, reason) {
      if (this.readyState === 3) return;
      this.readyState = 3;
      clearTimeout(this.#timer);
      this.#abort.abort();
      this.onclose?.({code, reason});
    }

    async #read() {
      const response = await this.#fetch({headers: {Accept: this.#accept}});
      if (!response.ok || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
        return this.#end(1006, `status ${response.status}`);
      }
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = "", part; !(part = await reader.read()).done;) {
        const events = (rest + part.value).split("\n\n");
        rest = events.pop();
        for (const event of events) this.#handle(event);
        clearTimeout(this.#timer);
        const {alive} = this.#hello;
        if (alive && this.readyState !== 3) this.#timer = setTimeout(() => this.#end(1006, "silent"), 2 * alive + 5000);
      }
    }

    #handle(text) {
      let name = "", data = [];
      for (const [, field, value] of text.matchAll(/^(event|data): (.*)$/gm)) field === "data" ? data.push(value) : name = value;
      data = data.join("\n");
      if (this.readyState === 3 || !data) return;
      if (name === "") return this.onmessage?.({data});
      if (name === "bytes") return this.onmessage?.({data: Uint8Array.from(atob(data), c => c.charCodeAt(0)).buffer});
      const what = JSON.parse(data);
      if (name === "close") return this.#end(what.code, what.reason);
      if (name !== "hello") return;
      this.#hello = what;
      this.protocol = what.protocol ?? "";
      this.readyState = 1;
      this.onopen?.();
    }

    // post sends what waits: each message once, and one POST after the other, so that they keep their order. Of what is too
    // large for a proxy nothing was taken: those messages go one by one, and one that is too large by itself is refused.
    async #post() {
      this.#posting = true;
      const most = this.limit / 3; // a character of a string has up to three bytes
      for (let single = 0; this.#waiting.length > 0 && this.readyState === 1;) {
        let n = 1, size = this.#waiting[0].text.length;
        while (single-- <= 0 && n < this.#waiting.length && (size += this.#waiting[n].text.length + 1) <= most) n++;
        const messages = this.#waiting.splice(0, n), status = await this.#take(messages.map(m => m.text).join("\n"));
        if (status === 413 && n === 1) messages[0].refused(new ClientError("too large", "too large: status 413"));
        else if (status === 413) [single, this.#waiting] = [n, [...messages, ...this.#waiting]];
        else if (status !== 204) this.#end(1006, status ? `status ${status}` : "");
      }
      this.#posting = false;
      if (this.#closing) this.#end(1000, "");
    }

    // take makes a POST, again and again while the server asks to wait, and returns its status.
    async #take(body) {
      for (;;) {
        const response = await this.#fetch({method: "POST", body, headers: {"Crosscast-Stream": this.#hello.token}}).catch(() => null);
        const status = response?.status, after = 1000 * response?.headers.get("Retry-After"); // then nothing was taken
        if (status === 204 || status === 413 || !after || this.#closing) return status;
        await new Promise(resolve => setTimeout(resolve, Math.min(after, 10000)));
        if (this.readyState !== 1) return status;
      }
    }
  }

  class Client {
    #url;
    #options;
    #handlers = new Map();
    #waiting = new Map(); // requests of the present connection, by ID
    #last = 0;            // ID of the newest request
    #rooms = new Map();   // {kept, on, calls, since}: was joined; the latest connection with that; calls of join that wait;
                          // if the server puts the join off, when the gap that goes on began, in ms
    #retries = new Set(); // {timer}, of the joins that the server has put off
    #socket = null;       // the present connection
    #end = () => {};      // ends the present connection, or attempt
    #timer;               // of the next attempt
    #backoff;
    #since = 0;           // when the gap of the previous connection begins, in ms; 0: there was none
    #open = new Map();    // when the gaps that go on began, in ms, by room
    #state = "connecting";
    #over = null;         // the error of all calls, once the client is closed or has given up
    #away = new Set();    // requests that wait for a connection
    #presences = new Map(); // {calls, on, at, count, members}, by room; on: the connection on which it was asked for; at: the number
                            // of the latest update there; undefined: none
    #refetches = new Map(); // {gap, pause, timer, due}, by room: refetch is to be called
    #stream = null;       // URL of streams; null: there are none
    #opened = false;      // whether a websocket has
    #blocked = 0;         // websockets since the last one that has opened
    #byStream = false;    // the next attempt is a stream
    #probe = null;        // a websocket that is tried during a stream
    #probing;             // timer of the next one
    #retry = event => {   // makes the next attempt now, unless the page is hidden
      if (event?.type === "online") this.#try();
      if (this.#timer === undefined || globalThis.document?.visibilityState === "hidden") return;
      clearTimeout(this.#timer);
      this.#connect();
    };

    constructor(url, options = {}) {
      this.#url = new URL(url, globalThis.location?.href);
      this.#url.protocol = this.#url.protocol.replace("http", "ws");
      if (options.stream) this.#stream = new URL(options.stream === true ? "" : options.stream, this.#url);
      this.#options = {
        minBackoff: 250, maxBackoff: 10000, dialTimeout: 10000, requestTimeout: 10000, awayBytes: 0, writeLimit: 2 ** 20,
        protocols: [withBytes], gapSpread: 1000, gapMargin: 6000, streamAfter: 4000, streamRetry: 60000,
        giveUp: (client, reason, code) => code === 4001,
        onerror: (client, event, error) => console.error(`crosscast: ${event}:`, error),
        onjoinerror: (client, room, error) => console.error(`crosscast: lost room ${room}:`, error), ...options,
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

    get state() { return this.#state; }

    get transport() { return !this.#socket ? "" : this.#socket instanceof Stream ? "stream" : "websocket"; }

    get connected() { return this.#socket?.readyState === 1; }

    emit(event, data) { this.#send({event, data}, error => this.#call("onerror", event, error)); }

    request(event, data, {timeout = this.#options.requestTimeout} = {}) {
      if (this.#over || this.connected || !this.#options.awayBytes) return this.#ask({event, data}, timeout);
      return new Promise((resolve, reject) => {
        const bytes = bytesOf(data)?.slice(), text = stringify({event, data: bytes ? "" : data});
        const size = text.length + (bytes?.length ?? 0) + 256;
        const waiting = [...this.#away].reduce((sum, call) => sum + call.size, 0);
        if (waiting + size > this.#options.awayBytes) throw new ClientError("not connected");
        const call = {text, bytes, size, resolve, reject, deadline: Date.now() + timeout};
        call.timer = setTimeout(() => {
          this.#away.delete(call);
          reject(new ClientError("timeout"));
        }, timeout);
        this.#away.add(call);
      });
    }

    get rooms() { return [...this.#rooms].filter(([, room]) => room.kept).map(([name]) => name); }

    join(name, {timeout} = {}) {
      return new Promise((resolve, reject) => { // an exception rejects the promise
        if (!name || typeof name !== "string") throw new TypeError("no name of a room");
        if (this.#over) throw this.#over;
        const room = this.#rooms.get(name) ?? {kept: false, calls: new Set()}, call = {resolve, reject};
        this.#rooms.set(name, room);
        room.calls.add(call);
        if (timeout !== undefined) call.timer = setTimeout(() => {
          room.calls.delete(call);
          this.#forget(name, room);
          reject(new ClientError("timeout"));
        }, timeout);
        if (this.connected) this.#join(name, room).catch(() => {}); // it was lost: the next connection joins
      });
    }

    async leave(name, {timeout = this.#options.requestTimeout} = {}) {
      if (this.#over) throw this.#over;
      const room = this.#rooms.get(name);
      this.#rooms.delete(name);
      if (room) settleCalls(room.calls, call => call.reject(new ClientError("left")));
      if (!this.connected) return; // a new connection is in no room
      await this.#ask({leave: name}, timeout).catch(error => { if (error.code !== "uncertain") throw error; });
    }

    presence(room, onsync) {
      if (!room || typeof room !== "string") throw new TypeError("no name of a room");
      if (this.#over) throw this.#over;
      const p = this.#presences.get(room) ?? {calls: new Set(), members: new Map()}, call = {onsync};
      this.#presences.set(room, p);
      p.calls.add(call);
      if (p.at !== undefined) this.#tellPresence(room, p, [call], {joined: [...p.members?.keys() ?? []], changed: [], left: []});
      else if (p.on !== this.#socket || !p.on) this.#watch(room, p);
      return () => {
        if (!p.calls.delete(call) || p.calls.size > 0 || this.#presences.get(room) !== p) return;
        this.#presences.delete(room);
        if (this.connected) this.#ask({unwatch: room}, this.#options.requestTimeout).catch(() => {});
      };
    }

    // watch asks for a presence, unless a join of the room is still to be made, which then asks.
    #watch(name, p = this.#presences.get(name), backoff = this.#options.minBackoff) {
      const socket = this.#socket, room = this.#rooms.get(name);
      if (!p || !this.connected || room && room.on !== socket) return;
      [p.on, p.at] = [socket, undefined];
      this.#ask({watch: name}, this.#options.requestTimeout).catch(error => {
        if (this.#presences.get(name) !== p || this.#socket !== socket || this.#over) return;
        if (!error.retry && error.code !== "timeout") {
          return this.#call("onerror", "presence", new ClientError(error.code, `room "${name}": ${error.message}`));
        }
        this.#watchLater(name, p, backoff / 2 * (1 + Math.random()), Math.min(2 * backoff, this.#options.maxBackoff));
      });
    }

    // watchLater asks again on this connection.
    #watchLater(name, p, pause, backoff) {
      const socket = this.#socket, retry = {timer: setTimeout(() => {
        this.#retries.delete(retry);
        if (this.#presences.get(name) === p && this.#socket === socket) this.#watch(name, p, backoff);
      }, pause)};
      this.#retries.add(retry);
    }

    // update takes a server's word on who is in a room. A number that does not follow means that one is missing.
    #update({room, at, count, all, set, left}) {
      const p = this.#presences.get(room), few = all || set || left;
      if (!p || few && !all && p.at === undefined) return;
      if (few && !all && at !== p.at + 1) return this.#watch(room, p);
      const before = p.members ?? new Map(), members = all ? new Map() : before, news = {joined: [], changed: [], left: []};
      for (const [user, data] of all ?? set ?? []) {
        if (!before.has(user)) news.joined.push(user);
        else if (JSON.stringify(before.get(user)) !== JSON.stringify(data)) news.changed.push(user);
        members.set(user, data);
      }
      if (few) news.left = all ? [...before.keys()].filter(user => !members.has(user)) : left ?? [];
      if (!all) for (const user of news.left) members.delete(user);
      Object.assign(p, {at, count, members: few ? members : null});
      this.#tellPresence(room, p, [...p.calls], news);
    }

    #tellPresence(room, {members, count}, calls, news) {
      for (const {onsync} of calls) {
        try {
          onsync({room, members, count, ...news});
        } catch (error) {
          this.#call("onerror", "presence", error);
        }
      }
    }

    close() { this.#finish(new ClientError("closed")); }

    // finish ends the client for good.
    #finish(error) {
      if (this.#over) return;
      this.#over = error;
      clearTimeout(this.#timer);
      clearTimeout(this.#probing);
      this.#probe?.onclose();
      for (const r of this.#refetches.values()) clearTimeout(r.timer);
      this.#refetches.clear();
      globalThis.removeEventListener?.("online", this.#retry);
      globalThis.document?.removeEventListener("visibilitychange", this.#retry);
      this.#end("closed");
      for (const calls of [this.#away, ...[...this.#rooms.values()].map(room => room.calls)]) {
        settleCalls(calls, call => call.reject(error));
      }
      this.#enter(error.code);
    }

    // ask sends a message and returns the promise of its reply, which fails when the connection is lost.
    #ask(message, timeout) {
      return new Promise((resolve, reject) => {
        const id = ++this.#last;
        this.#send({...message, id}, error => this.#settle(id, w => w.reject(error))); // an exception rejects the promise
        const timer = timeout === undefined ? undefined
          : setTimeout(() => this.#settle(id, w => w.reject(new ClientError("timeout"))), timeout);
        this.#waiting.set(id, {resolve, reject, timer});
      });
    }

    // join joins on this connection, and settles the calls that wait for the room. If the server is too busy, it returns,
    // and tries again after a pause.
    async #join(name, room, again, backoff = this.#options.minBackoff) {
      const socket = this.#socket;
      try {
        await this.#ask({join: name});
        const {since} = room;
        Object.assign(room, {kept: true, on: socket, since: undefined});
        settleCalls(room.calls, call => call.resolve());
        this.#watch(name);
        if (since === undefined || this.#rooms.get(name) !== room) return;
        this.#report({room: name, since: new Date(since), until: new Date(Date.now()), away: true, wait: this.#draw()}, true);
      } catch (error) {
        if (error.code !== "remote" && error.code !== "too large") throw error;
        if (error.retry) {
          const retry = {timer: setTimeout(() => {
            this.#retries.delete(retry);
            if (this.#rooms.get(name) !== room) return; // it was left
            this.#join(name, room, again, Math.min(2 * backoff, this.#options.maxBackoff)).catch(() => {});
          }, backoff / 2 * (1 + Math.random()))};
          return void this.#retries.add(retry);
        }
        settleCalls(room.calls, call => call.reject(error));
        const lost = again && room.kept && this.#rooms.get(name) === room;
        if (again) room.kept = false;
        this.#forget(name, room);
        if (lost) this.#call("onjoinerror", name, error);
      }
    }

    // rejoin joins the rooms on a new connection, which end ends.
    async #rejoin(socket, end) {
      const rooms = [...this.#rooms].filter(([, room]) => room.on !== socket);
      let timer;
      const wait = () => { // each reply has the time, and not all of them
        clearTimeout(timer);
        timer = setTimeout(() => end("no answer to a join"), this.#options.requestTimeout);
      };
      const join = async () => {
        for (let next; (next = rooms.shift()); wait()) {
          if (this.#rooms.get(next[0]) === next[1]) await this.#join(...next, true);
        }
      };
      wait();
      await Promise.all(Array.from({length: maxRejoins}, join)).finally(() => clearTimeout(timer));
    }

    // draw returns how long to wait before the server is asked for what an absence has missed.
    #draw() { return Math.random() * this.#options.gapSpread; }

    // reportLate reports the gaps of rooms that were not joined again yet.
    #reportLate(socket) {
      for (const [name, room] of this.#rooms) {
        room.since = undefined;
        if (!this.#since || !room.kept || room.on === socket) continue;
        room.since = this.#since;
        this.#report({room: name, since: new Date(room.since), until: null, away: true, wait: 0});
      }
    }

    // forget forgets a room that is not kept, and that no call waits for.
    #forget(name, room) {
      if (!room.kept && room.calls.size === 0 && this.#rooms.get(name) === room) this.#rooms.delete(name);
    }

    #send(message, refused) {
      if (this.#over) throw this.#over;
      if (!this.connected) throw new ClientError("not connected");
      send(this.#socket, message, this.#options.writeLimit, refused);
    }

    // settle ends a request. A reply for which nobody waits is no mistake of the server.
    #settle(id, how) {
      const waiting = this.#waiting.get(id);
      if (!waiting) return;
      this.#waiting.delete(id);
      clearTimeout(waiting.timer);
      how(waiting);
    }

    #enter(state) {
      if (this.#state === state) return;
      this.#state = state;
      this.#call("onstate", state);
    }

    // call calls a hook. Its exceptions must not stop the client.
    #call(hook, ...args) {
      try {
        return this.#options[hook]?.(this, ...args);
      } catch (error) {
        console.error(`crosscast: ${hook}:`, error);
      }
    }

    // report calls ongap, and keeps the gap for refetch, or for the absence in which a gap that goes on might end.
    #report(gap, ends) {
      if (ends) this.#open.delete(gap.room);
      if (!gap.until) {
        const room = this.#open.size < maxRefetches ? gap.room : "";
        this.#open.set(room, Math.min(gap.since.getTime(), this.#open.get(room) ?? Infinity));
      }
      this.#call("ongap", gap);
      if (gap.until && !gap.away) {
        for (const [name, p] of this.#presences) if (["", name].includes(gap.room)) this.#watchLater(name, p, gap.wait);
      }
      if (gap.until && this.#options.refetch && !this.#over) this.#keep({...gap}, 0, gap.wait);
    }

    #keep(gap, pause, wait) {
      if (this.#refetches.size >= maxRefetches && !this.#refetches.has(gap.room)) gap.room = "";
      const waiting = this.#refetches.get(gap.room)?.gap;
      if (waiting) {
        if (gap.since < waiting.since) waiting.since = gap.since;
        if (gap.until > waiting.until) waiting.until = gap.until;
        waiting.away ||= gap.away;
        return;
      }
      const r = {gap, pause, due: false};
      r.timer = setTimeout(() => { r.due = true; this.#refetch(); }, wait);
      this.#refetches.set(gap.room, r);
    }

    // refetch calls refetch for the gaps whose time has come.
    #refetch() {
      for (const [room, r] of [...this.#refetches]) {
        if (!r.due || this.#state !== "connected") continue;
        this.#refetches.delete(room);
        (async () => this.#options.refetch(this, {...r.gap}))().catch(error => {
          if (this.#over) return;
          this.#call("onerror", "refetch", error);
          const {minBackoff, maxBackoff} = this.#options;
          const pause = Math.min(Math.max(2 * r.pause, minBackoff), maxBackoff);
          this.#keep(r.gap, pause, pause / 2 * (1 + Math.random()));
        });
      }
    }

    // gapOf returns the server's report, which came at a time; undefined: it makes no sense.
    #gapOf({room = "", ago, wait = 0}, at) {
      const valid = n => typeof n === "number" && n >= 0 && n < 2 ** 42;
      if (typeof room !== "string" || !Array.isArray(ago) || ![1, 2].includes(ago.length) || ![...ago, wait].every(valid)) return;
      const until = ago.length === 2 ? new Date(at - ago[1]) : null;
      return {room, since: new Date(at - ago[0] - inFlight), until, away: false, wait: Math.random() * wait};
    }

    // dial begins a connection: a stream, or a websocket.
    #dial(stream) {
      const {WebSocket = globalThis.WebSocket, protocols} = this.#options;
      if (stream) return new Stream(this.#stream.href.replace(/^ws/, "http"), protocols);
      try {
        return Object.assign(new WebSocket(this.#url.href, protocols), {binaryType: "arraybuffer"});
      } catch (error) { // for example a policy, or there is no WebSocket
        if (!this.#stream) throw error;
        const socket = {readyState: 3, close() {}};
        Promise.resolve().then(() => socket.onclose?.({reason: String(error?.message ?? error), code: 1006}));
        return socket;
      }
    }

    // choose decides what the next attempt is, and returns whether it comes at once.
    #choose(stream, opened) {
      if (!this.#stream) return false;
      if (!stream) this.#blocked = opened ? 0 : this.#blocked + 1;
      this.#byStream = stream ? opened : this.#blocked >= (this.#opened ? 3 : 1);
      return this.#blocked === 1 && this.#byStream && !stream;
    }

    // try tries during a stream whether a websocket opens, which then takes its place.
    #try = () => {
      clearTimeout(this.#probing);
      if (this.#over || this.#probe || this.transport !== "stream") return;
      const probe = this.#probe = this.#dial(false);
      const done = change => {
        clearTimeout(timer);
        probe.onopen = probe.onclose = null;
        this.#probe = null;
        if (this.#over || !change) probe.close(1000);
        if (this.#over) return;
        if (change) this.#end("changes to a websocket");
        else if (this.#socket) return this.#tryLater();
        else if (this.#timer === undefined) return; // the next attempt is under way
        clearTimeout(this.#timer);
        if (change) this.#backoff = this.#options.minBackoff;
        this.#connect(change ? probe : undefined);
      };
      const timer = setTimeout(done, this.#options.streamAfter, false);
      probe.onopen = () => done(true);
      probe.onclose = () => done(false);
    };

    #tryLater() {
      clearTimeout(this.#probing);
      this.#probing = setTimeout(this.#try, this.#options.streamRetry);
    }

    #connect(ready) {
      this.#timer = undefined;
      this.#enter("connecting");
      const options = this.#options, began = Date.now(), stream = !ready && this.#byStream;
      const socket = ready ?? this.#dial(stream);
      let opened = 0, heard = 0, planned;        // the wait before the next attempt, if the server has told it
      let held = [];                             // events wait until onconnect is done
      const end = (reason, closeCode) => {
        if (this.#end !== end) return; // it has ended
        this.#end = () => {};
        clearTimeout(dial);
        socket.onopen = socket.onmessage = socket.onclose = null;
        socket.close(1000);
        this.#socket = null;
        for (const p of this.#presences.values()) [p.on, p.at] = [undefined, undefined];
        settleCalls(this.#retries, () => {});
        const joined = !held;
        if (joined) this.#since = Math.min(Math.max(opened, heard - options.gapMargin), ...this.#open.values());
        if (joined) this.#open.clear();
        else if (this.#since) this.#since = Math.min(this.#since, ...held.map(m => m.event ? Infinity : m.gap.since));
        const lost = this.#over ?? new ClientError("uncertain");
        for (const id of [...this.#waiting.keys()]) this.#settle(id, w => w.reject(lost));
        if (this.#over) return;
        const atOnce = this.#choose(stream, opened > 0), probe = this.#probe; // which might have taken the place
        if (!probe && this.#call("giveUp", reason, closeCode)) {
          if (joined) this.#call("ondisconnect", reason);
          this.#finish(new ClientError("gave up", reason));
          return this.#call("ongiveup", reason);
        }
        if (joined && Date.now() - began > options.maxBackoff) this.#backoff = options.minBackoff;
        // Jitter, so that the clients of a restarted server do not come back all at once.
        const wait = probe ? options.streamAfter : atOnce ? 0 : planned ?? this.#backoff / 2 * (1 + Math.random());
        if (planned === undefined && !atOnce) this.#backoff = Math.min(2 * this.#backoff, options.maxBackoff);
        this.#timer = setTimeout(() => this.#connect(), wait);
        this.#enter("waiting");
        if (joined) this.#call("ondisconnect", reason);
        else this.#call("onretry", reason, wait);
      };
      this.#end = end;
      const patience = this.#stream && !stream ? Math.min(options.dialTimeout, options.streamAfter) : options.dialTimeout;
      const dial = setTimeout(() => end("no answer"), patience);
      socket.onclose = e => end(e.reason || (heard ? "" : "cannot connect"), e.code);
      socket.onopen = async () => {
        clearTimeout(dial);
        opened = heard = Date.now();
        this.#socket = socket;
        if (stream) this.#tryLater();
        else [this.#opened, this.#blocked] = [true, 0];
        try {
          await options.onconnect?.(this);
          if (this.#end === end) await this.#rejoin(socket, end);
        } catch (error) {
          return end(error?.message ?? String(error));
        }
        if (this.#end !== end) return; // lost meanwhile
        const waited = held;
        held = null;
        this.#enter("connected");
        const [since, until] = [new Date(this.#since), new Date(Date.now())];
        if (this.#since) this.#report({room: "", since, until, away: true, wait: this.#draw()});
        this.#reportLate(socket);
        for (const [name, p] of this.#presences) if (p.on !== socket) this.#watch(name, p);
        for (const call of this.#away) {
          if (!this.connected) break; // it waits on
          this.#away.delete(call);
          clearTimeout(call.timer);
          this.#ask({...JSON.parse(call.text), ...(call.bytes && {data: call.bytes})}, call.deadline - Date.now()).then(call.resolve, call.reject);
        }
        for (const m of waited) m.event ? this.#handle(socket, m) : this.#report(m.gap, m.ends);
        this.#refetch();
      };
      socket.onmessage = e => {
        heard = Date.now();
        let m;
        try {
          m = decode(e.data);
        } catch (error) {
          return this.#call("onerror", "", error);
        }
        if (m?.reconnect && !m.event && m.id === undefined) {
          planned = Math.min(Math.max(+m.reconnect.wait || 0, 0), 60000);
          return;
        }
        if (m?.presence && !m.event && m.id === undefined) return this.#update(m.presence);
        const reports = m?.gap && !m.event && m.id === undefined, gap = reports && this.#gapOf(m.gap, heard);
        if (reports && !gap) return this.#call("onerror", "", new Error("malformed gap"));
        if (held && (m?.event || gap)) held.push(gap ? {gap, ends: m.gap.ends === true} : m);
        else if (gap) this.#report(gap, m.gap.ends === true);
        else if (m?.event) this.#handle(socket, m);
        else if (m?.error !== undefined) this.#settle(m.id, w => w.reject(new ClientError("remote", m.error, m.retry === true)));
        else this.#settle(m?.id, w => w.resolve(m.data));
      };
      if (ready) socket.onopen();
    }

    // handle handles an event, and replies if the server waits for a reply.
    async #handle(socket, {event, data, id}) {
      const handler = this.#handlers.get(event), failed = error => this.#call("onerror", event, error);
      if (!handler && !id) {
        if (event === "error") failed(new ClientError("remote", String(data?.message ?? data)));
        return;
      }
      const reply = answer => {
        if (id && socket.readyState === 1) send(socket, {id, ...answer}, this.#options.writeLimit, failed);
      };
      try {
        if (!handler) throw new ClientError("no handler");
        reply({data: await handler(data)});
      } catch (error) {
        if (handler) failed(error);
        reply({error: String(error?.message || error || "failed").slice(0, 200)});
      }
    }
  }

  globalThis.crosscast = {Client, ClientError};
})();
