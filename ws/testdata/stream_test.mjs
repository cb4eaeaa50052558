// Tests of how client.js falls back to a stream, and goes back. This file plays the server of both, and moves the clock.
// CLIENT is the module's file.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const { Client } = await import(pathToFileURL(process.env.CLIENT));

// The clock.
let now = 1_000_000, timers = [];
Date.now = () => now;
Math.random = () => 0.5;
const setTimer = globalThis.setTimeout;
globalThis.setTimeout = (f, ms, ...args) => {
  timers.push({f: () => f(...args), at: now + ms});
  return timers.at(-1);
};
globalThis.clearTimeout = timer => { timers = timers.filter(t => t !== timer); };
const settled = async () => { for (let i = 0; i < 5; i++) await new Promise(setImmediate); };
async function pass(ms) {
  const end = now + ms;
  for (;;) {
    const next = timers.filter(t => t.at <= end).sort((a, b) => a.at - b.at)[0];
    if (!next) break;
    now = next.at;
    clearTimeout(next);
    next.f();
    await settled();
  }
  now = end;
}

async function until(condition) {
  for (let i = 0; !condition(); i++) {
    assert(i < 1000);
    await pass(100);
  }
}

// The server.
let sockets = [], streams = [], posts = [], answers = [];
class FakeSocket {
  readyState = 0;
  sent = [];
  constructor(url) {
    this.url = url;
    sockets.push(this);
  }
  send(text) { this.sent.push(JSON.parse(text)); }
  close(code) { this.readyState = 3; this.code = code; }
  async open() { this.readyState = 1; this.onopen(); await settled(); }
  async message(m) { this.onmessage?.({data: JSON.stringify(m)}); await settled(); }
  async lose(reason = "", code = 1006) { this.readyState = 3; this.onclose?.({reason, code}); await settled(); }
}
class FakeStream {
  constructor(url, signal) {
    Object.assign(this, {url, signal});
    this.body = new ReadableStream({start: controller => { this.controller = controller; }});
    this.response = new Promise(resolve => { this.answer = resolve; });
    signal.addEventListener("abort", () => { try { this.controller.error(signal.reason); } catch {} });
    streams.push(this);
  }
  async text(text) { this.controller.enqueue(new TextEncoder().encode(text)); await settled(); }
  async message(m) { await this.text(`id: 5\ndata: ${JSON.stringify(m)}\n\n`); }
  async open(hello = {}) {
    this.answer(new Response(this.body, {headers: {"Content-Type": "text/event-stream"}}));
    await this.text(`event: hello\nid: 1\ndata: ${JSON.stringify({token: "n.s.t", limit: 300, alive: 25000, ...hello})}\n\n`);
  }
  async refuse(status) { this.answer(new Response("", {status})); await settled(); }
}
globalThis.fetch = async (url, {method = "GET", body, headers, signal, credentials}) => {
  assert.equal(credentials, "include");
  if (method === "GET") return new FakeStream(url, signal).response;
  posts.push(body);
  assert.equal(headers["Crosscast-Stream"], "n.s.t");
  const [status, after] = answers.shift() ?? [204];
  return new Response(null, {status, headers: after ? {"Retry-After": after} : {}});
};
const takePosts = () => posts.splice(0).join("|");

let happened = [];
function connect(options = {}) {
  [sockets, streams, posts, answers, timers, happened] = [[], [], [], [], [], []];
  return new Client("http://example.com/ws", {
    stream: "/events", WebSocket: FakeSocket, minBackoff: 1000, events: {n: n => happened.push(`n ${n}`)},
    onstate: (_, state) => happened.push(state), onretry: (_, reason, wait) => happened.push(`retry ${reason} ${wait}`),
    ondisconnect: (_, reason) => happened.push(`lost ${reason}`), ongap: (_, gap) => happened.push(`gap ${gap.away}`), ...options,
  });
}
function take(...want) { assert.deepEqual(happened.splice(0), want); }

// byStream returns a client whose websockets are blocked.
async function byStream(options) {
  const client = connect(options);
  await sockets[0].lose();
  await pass(0);
  await streams[0].open();
  happened = [];
  return client;
}

const tests = {
  async "a websocket that cannot be made"() {
    const client = connect({stream: "/events"});
    assert.equal(client.transport, "");
    await sockets[0].lose();
    take("waiting", "retry cannot connect 0");
    await pass(0);
    take("connecting");
    assert.equal(streams[0].url, "http://example.com/events");
    await streams[0].open();
    take("connected");
    assert.equal(client.transport, "stream");
    assert(client.connected);
    await streams[0].message({event: "n", data: 1});
    await streams[0].text(`data: {"event":"n",\ndata: "data":2}\n\n:\n\ndata: {"event":`);
    await streams[0].text(`"n","data":3}\n\n`);
    take("n 1", "n 2", "n 3");
    client.emit("a", 1);
    client.emit("b");
    const answer = client.request("c"), long = assert.rejects(client.request("d", "x".repeat(200)), {code: "remote"});
    await settled();
    assert.equal(takePosts(), `{"event":"a","data":1}|{"event":"b"}\n{"event":"c","id":1}|{"event":"d","data":"${"x".repeat(200)}","id":2}`);
    await streams[0].message({id: 1, data: "yes"});
    await streams[0].message({id: 2, error: "no"});
    assert.equal(await answer, "yes");
    await long;
    client.emit("last");
    client.emit("of all");
    client.close();
    assert(!streams[0].signal.aborted);
    await settled();
    assert.equal(takePosts(), `{"event":"last"}|{"event":"of all"}`);
    assert(streams[0].signal.aborted);
    assert.deepEqual(timers, []);
  },
  async "a websocket that does not open, on the same URL"() {
    const client = connect({stream: true});
    await pass(3999);
    assert.equal(streams.length, 0);
    await pass(1);
    assert.equal(sockets[0].code, 1000);
    assert.equal(streams[0].url, "http://example.com/ws");
    await streams[0].refuse(503); // then websockets again, and so on
    take("waiting", "retry no answer 0", "connecting", "waiting", "retry status 503 750");
    await pass(1000);
    assert.equal(sockets.length, 2);
    await sockets[1].lose();
    await pass(10000);
    assert.equal(streams.length, 2);
    await streams[1].open();
    assert.equal(client.transport, "stream");
    client.close();
  },
  async "without the option"() {
    const client = connect({stream: undefined});
    for (let i = 0; i < 5; i++) {
      await sockets[i].lose();
      await pass(10000);
    }
    assert.equal(streams.length, 0);
    client.close();
  },
  async "after a websocket has opened, three attempts"() {
    const client = connect();
    await sockets[0].open();
    await sockets[0].lose();
    for (let i = 1; i <= 3; i++) {
      await until(() => sockets.length > i);
      await sockets[i].lose();
    }
    await until(() => streams.length > 0);
    assert.equal(sockets.length, 4);
    await streams[0].open();
    assert.equal(client.transport, "stream");
    await streams[0].text(`event: close\nretry: 9\ndata: {"code":1012,"reason":"server restarting"}\n\n`);
    assert.equal(happened.at(-1), "lost server restarting");
    await until(() => streams.length > 1);
    assert.equal(streams.length, 2, "the next one is a stream, too");
    assert.equal(sockets.length, 4);
    client.close();
  },
  async "and back"() {
    const client = await byStream();
    const joined = client.join("r");
    await settled();
    await streams[0].message({id: 1});
    await joined;
    await pass(30000);
    await streams[0].text(":\n\n");
    await pass(29999);
    await streams[0].text(":\n\n");
    assert.equal(sockets.length, 1);
    await pass(1);
    await sockets[1].lose(); // still blocked
    await streams[0].text(":\n\n");
    await pass(50000);
    await streams[0].text(":\n\n");
    await pass(10000);
    assert.equal(sockets.length, 3);
    take();
    await sockets[2].open();
    assert(streams[0].signal.aborted);
    assert.deepEqual(sockets[2].sent.map(m => m.join), ["r"]);
    await sockets[2].message({id: sockets[2].sent[0].id});
    take("waiting", "lost changes to a websocket", "connecting", "connected", "gap true");
    assert.equal(client.transport, "websocket");
    await sockets[2].lose();
    await pass(1000);
    assert.equal(sockets.length, 4);
    assert.equal(streams.length, 1);
    client.close();
    await pass(1e6);
    assert.equal(sockets.length, 4);
  },
  async "the server closes the stream because of the websocket"() {
    const client = await byStream();
    await pass(25000);
    await streams[0].text(":\n\n");
    await pass(35000);
    await streams[0].text(`event: close\ndata: {"code":4001,"reason":"replaced"}\n\n`);
    take("waiting", "lost replaced");
    await sockets[1].open();
    take("connecting", "connected", "gap true");
    await sockets[1].lose("replaced", 4001);
    assert.equal(client.state, "gave up");
  },
  async "the server rejects"() {
    const client = connect();
    await sockets[0].lose();
    await pass(0);
    await streams[0].open();
    await streams[0].text(`event: close\ndata: {"code":4001,"reason":"log in first"}\n\n`);
    assert.equal(client.state, "gave up");
  },
  async "POSTs that are not taken, and those that are lost"() {
    const client = await byStream();
    answers = [[429, 1], [503, 2], [204]];
    client.emit("a");
    await settled();
    client.emit("b");
    await settled();
    assert.equal(takePosts(), `{"event":"a"}`);
    await pass(1000);
    assert.equal(takePosts(), `{"event":"a"}`);
    await pass(2000);
    assert.equal(takePosts(), `{"event":"a"}|{"event":"b"}`);
    answers = [[410]];
    await assert.rejects(client.request("c"), {code: "uncertain"});
    take("waiting", "lost status 410");
    assert.equal(takePosts(), `{"event":"c","id":1}`);
    client.close();
  },
  async "messages that are too large"() {
    const errors = [];
    const client = await byStream({onerror: (_, event, error) => errors.push(`${event} ${error.code}`)});
    const [most, more] = ["x".repeat(300 - 23), "ä".repeat(140)]; // of 300 bytes with the rest, and of more
    client.emit("a", most);
    await settled();
    assert.equal(takePosts().length, 300);
    assert.throws(() => client.emit("a", most + "x"), {code: "too large", message: "too large: 301 bytes (at most 300)"});
    assert.throws(() => client.emit("a", more), {code: "too large"});
    await assert.rejects(client.request("a", most), {code: "too large"});
    await assert.rejects(client.join("x".repeat(300)), {code: "too large"});
    assert.deepEqual(client.rooms, []);
    client.on("ask", () => most + most);
    await streams[0].message({event: "ask", id: 8});
    assert.equal(takePosts(), '{"id":8,"error":"too large: 572 bytes (at most 300)"}');
    assert.equal(errors.pop(), "ask too large");
    await settled();
    assert.equal(takePosts(), "");

    // A proxy takes less.
    answers = [[204], [413], [204], [413], [204]];
    client.emit("a");
    client.emit("b");
    const answer = client.request("c").catch(error => error.code);
    client.emit("d");
    await settled();
    assert.equal(takePosts(), '{"event":"a"}|{"event":"b"}\n{"event":"c","id":3}\n{"event":"d"}|{"event":"b"}|{"event":"c","id":3}|{"event":"d"}');
    assert.equal(await answer, "too large");
    answers = [[413, 5]];
    client.emit("e");
    await settled();
    assert.deepEqual(errors, ["e too large"]);
    client.emit("f");
    client.emit("g");
    client.emit("h");
    await settled();
    assert.equal(takePosts(), '{"event":"e"}|{"event":"f"}|{"event":"g"}\n{"event":"h"}');
    take();
    assert.equal(client.transport, "stream");
    client.close();
  },
  async "bytes"() {
    const got = [];
    const client = connect({events: {pic: bytes => got.push(bytes)}});
    await sockets[0].lose();
    await pass(0);
    await streams[0].open({protocol: "crosscast.json.1"});
    await streams[0].text(`event: bytes\ndata: ${btoa('{"event":"pic"}\0\x01\xff')}\n\n`);
    assert.deepEqual(got, [new Uint8Array([1, 255])]);
    client.emit("pic", new Uint8Array([1, 255]));
    await settled();
    assert.equal(takePosts(), "=" + btoa('{"event":"pic"}\0\x01\xff'));
    client.emit("pic", new Uint8Array(206)); // 222 bytes: 297 as base64
    assert.throws(() => client.emit("pic", new Uint8Array(207)), {code: "too large"});
    client.close();
  },
  async "a WebSocket that throws, or is missing"() {
    const real = globalThis.WebSocket;
    delete globalThis.WebSocket;
    for (const WebSocket of [undefined, class { constructor() { throw new Error("not here"); } }]) {
      assert.throws(() => connect({stream: undefined, WebSocket}), WebSocket ? /not here/ : TypeError);
      const client = connect({WebSocket});
      await settled();
      assert.match(happened.splice(0).join(), WebSocket ? /^waiting,retry not here 0$/ : /^waiting,retry .*constructor 0$/);
      await pass(0);
      await streams[0].open();
      take("connecting", "connected");
      await pass(30000);
      await streams[0].text(":\n\n");
      await pass(35000);
      take(); // also after another attempt
      assert.equal(client.transport, "stream");
      client.close();
    }
    globalThis.WebSocket = real;
  },
  async "a stream that is silent"() {
    const client = await byStream({streamRetry: 1e9});
    await pass(54000);
    await streams[0].text(":\n\n");
    await pass(54999);
    take();
    await pass(1);
    take("waiting", "lost silent");
    assert(streams[0].signal.aborted);
    client.close();
  },
};

for (const [name, test] of Object.entries(tests)) {
  const patience = setTimer(() => { console.log(`HANGS: ${name}`); process.exit(1); }, 20000);
  try {
    await test();
  } catch (error) {
    console.log(`FAILED: ${name}\n`, error);
    process.exitCode = 1;
  }
  patience.unref();
}
process.exit();
