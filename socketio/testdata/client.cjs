// What an unmodified client sees of a server. The server's URL is the argument. At the end it asks on standard output to
// close the server.
const assert = require("node:assert");
const { once } = require("node:events");
const { io } = require("socket.io-client");

const url = process.argv[2];
const websocket = { transports: ["websocket"], forceNew: true, auth: { token: "good" } };

// event waits for an event of a client, and returns its arguments.
const event = (socket, name) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${name}`)), 10_000);
    socket.once(name, (...args) => {
      clearTimeout(timer);
      resolve(args);
    });
  });

const connected = async (path, options) => {
  const socket = io(url + path, { ...websocket, ...options });
  await event(socket, "connect");
  return socket;
};

const tests = {
  async "the client is who the server says"() {
    const s = await connected("/");
    assert.strictEqual(s.id.length, 20);
    assert.strictEqual(await s.emitWithAck("whoami"), s.id);
    assert.ok(!s.recovered);
    s.disconnect();
  },

  async "a middleware's error has its data"() {
    const s = io(url, { ...websocket, auth: { token: "bad" } });
    const [err] = await event(s, "connect_error");
    assert.strictEqual(err.message, "not authorized");
    assert.deepStrictEqual(err.data, { code: 7 });
    s.auth = { token: "good" };
    s.connect();
    await event(s, "connect");
    s.disconnect();
  },

  async "an unknown namespace is refused"() {
    const s = io(url + "/nowhere", websocket);
    const [err] = await event(s, "connect_error");
    assert.strictEqual(err.message, "Invalid namespace");
    s.disconnect();
  },

  async "arguments of all kinds come back"() {
    for (const options of [{}, { forceBase64: true }]) {
      const s = await connected("/", options);
      for (const args of [
        [],
        [null],
        ["text", 1, -1.5, 1e21, true, "\u00e9\u{1f600}\u2028\"\\", ""],
        [{ a: [1, { b: null }], c: {} }, []],
        [Buffer.from([1, 2, 255])],
        [Buffer.alloc(0), "x", { deep: [Buffer.alloc(100_000, 7), { b: Buffer.from("b") }] }],
        [{ _placeholder: true, num: 0 }],
        [{ _placeholder: true, num: 0 }, 1],
      ]) {
        const back = event(s, "echo");
        const ack = new Promise((resolve) => s.emit("echo", ...args, (...results) => resolve(results)));
        assert.deepStrictEqual(await back, args);
        assert.deepStrictEqual(await ack, args);
      }
      s.disconnect();
    }
  },

  async "a failure is acknowledged, and a plain handler too"() {
    const s = await connected("/");
    assert.deepStrictEqual(await s.timeout(5000).emitWithAck("fail"), { error: "not today" });
    assert.deepStrictEqual(await s.timeout(5000).emitWithAck("unheard of"), { error: 'unknown event "unheard of"' });
    assert.strictEqual(await s.timeout(5000).emitWithAck("join", "somewhere"), undefined);
    s.disconnect();
  },

  async "the client acknowledges"() {
    const s = await connected("/");
    s.on("question", (a, b, reply) => reply([b, a], Buffer.from([1])));
    assert.deepStrictEqual(await s.emitWithAck("ask me"), [["b", "a"], "AQ=="]);
    s.disconnect();
  },

  async "one connection has several namespaces"() {
    const a = await connected("/");
    const b = a.io.socket("/chat", { auth: {} });
    b.connect();
    await event(b, "connect");
    assert.notStrictEqual(a.id, b.id);
    const seen = [];
    a.onAny((name) => seen.push(name));
    const back = event(b, "echo");
    assert.deepStrictEqual(await b.emitWithAck("echo", 1), 1);
    assert.deepStrictEqual(await back, [1]);
    await a.emitWithAck("whoami");
    assert.deepStrictEqual(seen, []);

    a.emit("kick");
    assert.deepStrictEqual((await event(a, "disconnect"))[0], "io server disconnect");
    assert.ok(b.connected && !a.active);
    assert.deepStrictEqual(await b.emitWithAck("echo", 2), 2);
    a.connect();
    await event(a, "connect");

    const gone = Promise.all([event(a, "disconnect"), event(b, "disconnect")]);
    a.emit("force");
    assert.deepStrictEqual((await gone).map(([reason]) => reason), ["io server disconnect", "io server disconnect"]);
    a.io._close();
  },

  async "a room hears, and nobody else"() {
    const [a, b, c] = await Promise.all([connected("/"), connected("/"), connected("/")]);
    await Promise.all([a.emitWithAck("join", "room1"), b.emitWithAck("join", "room1")]);
    c.on("said", () => assert.fail("not in the room"));
    const heard = Promise.all([event(a, "said"), event(b, "said")]);
    await a.emitWithAck("say", "room1", "hello");
    for (const [text, bytes] of await heard) {
      assert.strictEqual(text, "hello");
      assert.deepStrictEqual(bytes, { b: Buffer.from([1, 2]) });
    }
    await c.emitWithAck("whoami");
    [a, b, c].forEach((s) => s.disconnect());
  },

  async "the client leaves and comes again"() {
    const s = await connected("/");
    const before = s.id;
    s.disconnect();
    s.connect();
    await event(s, "connect");
    assert.notStrictEqual(s.id, before);
    s.disconnect();
  },

  async "pings are answered"() {
    const s = await connected("/");
    for (let i = 0; i < 3; i++) {
      await once(s.io.engine, "ping");
    }
    assert.ok(s.connected);
    s.disconnect();
  },

  async "a client that begins with polling is told, and may go on"() {
    const polls = io(url, { ...websocket, transports: ["polling"], reconnection: false });
    const [err] = await event(polls, "connect_error");
    assert.strictEqual(err.context.status, 400);
    const goesOn = await connected("/", { transports: ["polling", "websocket"], tryAllTransports: true });
    assert.strictEqual(goesOn.io.engine.transport.name, "websocket");
    polls.disconnect();
    goesOn.disconnect();
  },

  async "a server that shuts down is tried again"() {
    const s = await connected("/");
    const gone = event(s, "disconnect");
    console.log("close");
    assert.strictEqual((await gone)[0], "transport close");
    assert.ok(s.active);
    s.disconnect();
  },
};

(async () => {
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test();
    } catch (err) {
      console.error(`${name}:`, err);
      process.exitCode = 1;
      break;
    }
  }
  process.exit();
})();
