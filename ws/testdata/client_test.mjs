// Tests of client.js with a WebSocket that this file plays the server of, and a clock that it moves. CLIENT is the
// module's file.
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const { Client } = await import(pathToFileURL(process.env.CLIENT));

// The clock.
let now = 1_000_000, timers = [];
Date.now = () => now;
globalThis.setTimeout = (f, ms) => {
  timers.push({f, at: now + ms});
  return timers.at(-1);
};
globalThis.clearTimeout = timer => { timers = timers.filter(t => t !== timer); };
const settled = () => new Promise(setImmediate); // promises have run
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

// The server.
let sockets = [];
class FakeSocket {
  readyState = 0;
  sent = [];
  constructor(url, protocols) {
    Object.assign(this, {url, protocols, protocol: FakeSocket.protocol});
    sockets.push(this);
  }
  send(data) { this.sent.push(typeof data === "string" ? JSON.parse(data) : Buffer.from(data).toString("latin1")); }
  close(code) { this.readyState = 3; this.code = code; }
  async open() { this.readyState = 1; this.onopen(); await settled(); }
  async message(m) { this.onmessage?.({data: typeof m === "string" || m instanceof ArrayBuffer ? m : JSON.stringify(m)}); await settled(); }
  async lose(reason = "", code = 1006) { this.readyState = 3; this.onclose?.({reason, code}); await settled(); }
}
const last = () => sockets.at(-1);

let happened = [];
const note = (...what) => { happened.push(what.join(" ")); };
function take(...want) {
  assert.deepEqual(happened, want);
  happened = [];
}

function connect(options = {}) {
  [sockets, timers, happened] = [[], [], []];
  return new Client("http://example.com/ws", {
    WebSocket: FakeSocket, ondisconnect: (_, r) => note("disconnected", r), onretry: (_, r, wait) => note("retry", r),
    ongap: (_, {since, until, away}) => note("gap", until - since, ...(away ? [] : ["told"])), onerror: (_, event, e) => note("error", event, e.message), ...options,
  });
}

// results collects the outcomes of promises.
function collector() {
  const results = [];
  const of = (name, promise) => { promise.then(() => results.push(name), e => results.push(`${name}: ${e.code ?? e.name}`)); };
  return {of, take(...want) { assert.deepEqual(results.splice(0), want); }};
}

// answer answers the joins and leaves that the client has sent since the last call, and returns them.
async function answer(error = {}) {
  const sent = last().sent.splice(0);
  for (const {id, join} of sent) await last().message(error[join] ? {id, error: error[join]} : {id});
  return sent.map(m => m.join ? `+${m.join}` : m.leave ? `-${m.leave}` : m.event).join(" ");
}

const tests = {
  async "the wait before the next connection that the server tells"() {
    const waits = [];
    const client = connect({minBackoff: 4000, maxBackoff: 4000, onretry: (_, reason, wait) => waits.push(wait), ongap: () => {}});
    for (const [told, waited] of [[740, 740], [0, 0], [-1, 0], ["x", 0], [1e12, 60000]]) {
      await last().open();
      await last().message({reconnect: {wait: told}});
      const before = sockets.length;
      await last().lose("server restarting");
      take("disconnected server restarting");
      if (waited > 0) await pass(waited - 1);
      assert.equal(sockets.length, before);
      await pass(1);
      assert.equal(sockets.length, before + 1);
    }
    Math.random = () => 0.5;
    await last().lose("cannot connect");
    assert.deepEqual(waits, [3000]); // the client's own back-off
    client.close();
  },
  async "events, in order, after onconnect and the gap"() {
    let joined;
    const client = connect({
      events: {n: n => note("n", n)},
      onconnect: () => new Promise(resolve => { joined = resolve; }),
    });
    assert.equal(last().url, "ws://example.com/ws");
    assert.throws(() => client.emit("x"), {code: "not connected"});
    for (const round of [1, 2]) {
      await last().open();
      assert(client.connected);
      await last().message({event: "n", data: 1});
      await last().message({event: "n", data: 2});
      await last().message({event: "unknown"});
      take();
      joined();
      await settled();
      await last().message({event: "n", data: 3});
      take(...(round === 2 ? ["gap 5188"] : []), "n 1", "n 2", "n 3");
      now += 5000; // nothing is heard
      Math.random = () => 0.5; // 187.5 ms
      await last().lose("going away");
      await last().message({event: "n", data: 4}); // it has ended
      take("disconnected going away");
      assert(!client.connected);
      if (round === 1) {
        await pass(187);
        assert.equal(sockets.length, 1);
        await pass(1);
        assert.equal(sockets.length, 2);
      }
    }
    client.close();
  },

  async "requests"() {
    const client = connect({requestTimeout: 100});
    await last().open();
    const results = [];
    const ask = (event, options) => client.request(event, {a: 1}, options)
      .then(v => results.push(`${event} ${v}`), e => results.push(`${event} ${e.code} ${e.message}`));
    ["good", "bad", "slow", "slower", "lost"].forEach((e, i) => ask(e, i > 2 ? {timeout: 1000} : undefined));
    assert.deepEqual(last().sent[0], {event: "good", data: {a: 1}, id: 1});
    await last().message({id: 2, error: "not today"});
    await last().message({id: 1, data: 42});
    await last().message({id: 1, data: 43});
    await last().message({id: 99});
    await pass(100);
    await last().message({id: 3, data: "too late"});
    await last().message({id: 4});
    await last().lose();
    ask("offline");
    client.close();
    ask("afterwards");
    await settled();
    assert.deepEqual(results, [
      "bad remote not today", "good 42", "slow timeout timeout", "slower undefined", "lost uncertain uncertain",
      "offline not connected not connected", "afterwards closed closed",
    ]);
    assert.equal(timers.length, 0);
  },

  async "joins, and joins again after a reconnect"() {
    const outcome = collector();
    const client = connect({
      events: {n: n => note("n", n)}, onconnect: client => { client.emit("login"); note("connect"); },
      onjoinerror: (_, room, error) => note("lost", room, error.message),
    });
    outcome.of("early", client.join("early")); // before there is a connection
    outcome.of("empty", client.join(""));
    await last().open();
    await last().message({event: "n", data: 0});
    take("connect");
    assert.equal(await answer(), "login +early");
    take("n 0");
    outcome.take("empty: TypeError", "early");
    for (const room of ["a", "b", "a", "secret"]) outcome.of(room, client.join(room));
    client.emit("say");
    assert.equal(await answer({secret: "members only"}), "+a +b +a +secret say");
    outcome.take("a", "a", "b", "secret: remote");
    assert.deepEqual(client.rooms, ["early", "a", "b"]);
    outcome.of("pending", client.join("pending"));
    outcome.of("refused", client.join("refused"));
    outcome.of("left", client.join("left"));
    outcome.of("leave", client.leave("left"));
    await last().lose();
    outcome.of("offline", client.join("offline"));
    outcome.of("short", client.join("short", {timeout: 10}));
    outcome.of("leave b", client.leave("b"));
    take("disconnected ");
    await pass(300);
    outcome.take("left: left", "leave", "leave b", "short: timeout");
    await last().open();
    await last().message({event: "n", data: 1});
    take("connect");
    assert.equal(await answer({a: "not any more", refused: "no"}), "login +early +a +pending +refused +offline");
    outcome.take("pending", "refused: remote", "offline");
    take("lost a not any more", "gap 300", "n 1");
    assert.deepEqual(client.rooms, ["early", "pending", "offline"]);
    outcome.of("leave again", client.leave("early"));
    assert.equal(await answer(), "-early");
    outcome.of("never", client.join("never"));
    client.close();
    outcome.of("closed", client.join("x"));
    outcome.of("closed", client.leave("x"));
    await settled();
    outcome.take("leave again", "never: closed", "closed: closed", "closed: closed");
    assert.equal(timers.length, 0);
  },

  async "joins again: 100 at a time, and as long as there are answers"() {
    const rooms = 250, client = connect();
    await last().open();
    const all = Array.from({length: rooms}, (_, i) => `r${i}`);
    all.forEach(room => client.join(room));
    await answer();
    assert.deepEqual(client.rooms, all);
    await last().lose();
    await pass(300);
    await last().open();
    take("disconnected ");
    client.leave(all.pop()).catch(() => {}); // before its turn
    assert.equal(last().sent.pop().leave, "r249");
    const seen = [];
    for (let i = 0; i < all.length; i++) {
      await pass(9000);
      seen.push(...last().sent.splice(0));
      assert(seen.length <= i + 100 && (seen.length === i + 100 || seen.length === all.length), `${seen.length} after ${i}`);
      await last().message({id: seen[i].id});
    }
    assert.deepEqual(seen.map(m => m.join), all);
    assert.equal(happened.length, 1); // the gap
    // No answer.
    await last().lose();
    await pass(300);
    happened = [];
    await last().open();
    await pass(9999);
    take();
    await pass(1);
    take("retry no answer to a join");
    assert.deepEqual(client.rooms, all);
    client.close();
    await settled();
    assert.equal(timers.length, 0);
  },

  async "joins that the server puts off"() {
    const outcome = collector(), maxBackoff = 1000;
    const client = connect({
      minBackoff: 250, maxBackoff, gapSpread: 0, events: {n: n => note("n", n)},
      onjoinerror: (_, room, error) => note("lost", room, error.message),
      ongap: (_, {room, since, until, away}) => note("gap", room, since - 1e6, until ? until - 1e6 : "goes on", away),
      refetch: async (_, {room}) => note("refetch", room),
    });
    const sent = async () => { await settled(); return last().sent.splice(0); };
    const putOff = async (...joins) => { for (const {id} of joins) await last().message({id, error: "try again later", retry: true}); };
    Math.random = () => 0.5;
    now = 1e6;
    await last().open();
    outcome.of("a", client.join("a"));
    outcome.of("b", client.join("b"));
    for (const pause of [187, 374, 749, 749]) { // three quarters of a back-off, up to maxBackoff
      const joins = await sent();
      assert.equal(joins.length, 2);
      await putOff(...joins);
      await pass(pause);
      assert.deepEqual(await sent(), []);
      await pass(1);
    }
    await answer({b: "members only"});
    outcome.take("a", "b: remote");
    assert.deepEqual(client.rooms, ["a"]);
    outcome.of("b", client.join("b"));
    await answer();
    outcome.of("short", client.join("short", {timeout: 100}));
    outcome.of("left", client.join("left"));
    await putOff(...await sent());
    outcome.of("leave", client.leave("left"));
    await answer();
    await pass(1000);
    assert.deepEqual(await sent(), []);
    outcome.take("b", "left: left", "leave", "short: timeout");

    // A room that comes late holds up nothing. Its gap goes on.
    const rejoin = async () => {
      await last().lose();
      happened = [];
      await pass(maxBackoff);
      await last().open();
      const [a, b] = await sent();
      assert.deepEqual([a.join, b.join], ["a", "b"]);
      await putOff(a);
      await last().message({event: "n", data: 1});
      await last().message({id: b.id});
    };
    const since = 0; // of the connection
    now = 1e6 + 5000;
    await rejoin();
    take(`gap  ${since} 6000 true`, `gap a ${since} goes on true`, "n 1");
    await pass(1);
    take("refetch ");
    await pass(187);
    await last().message({event: "n", data: 2});
    await answer();
    take("n 2", `gap a ${since} 6188 true`);
    await pass(1);
    take("refetch a");
    await pass(10000);
    assert.deepEqual(await sent(), []);

    // The connection is lost before: the gap of the absence begins with it.
    await rejoin();
    const begins = Number(happened[1].split(" ")[2]);
    assert(begins > 0, "the gap of before has ended");
    assert.match(happened[1], /^gap a \d+ goes on true$/);
    await pass(150); // of the pause
    now += 20000;
    await last().message({event: "n", data: 3});
    await rejoin();
    assert(happened[0].startsWith(`gap  ${begins} `), happened[0]);
    assert(happened[1].startsWith(`gap a ${begins} `), happened[1]);
    await pass(188);
    happened = [];
    await answer({a: "not any more"});
    take("lost a not any more");
    assert.deepEqual(client.rooms, ["b"]);
    outcome.of("c", client.join("c"));
    await putOff(...await sent());
    client.close();
    await settled();
    outcome.take("c: closed");
    assert.equal(timers.length, 0);
  },
  async "a refused join of a room that is kept, and messages that look like two kinds"() {
    const outcome = collector();
    const client = connect({minBackoff: 100, events: {n: n => note("n", n)}, onjoinerror: (_, room) => note("lost", room)});
    await last().open();
    outcome.of("a", client.join("a"));
    await answer();
    outcome.of("a", client.join("a"));
    await answer({a: "not now"});
    outcome.take("a", "a: remote");
    assert.deepEqual(client.rooms, ["a"]);
    await last().message({event: "n", data: 1, reconnect: {wait: 5000}, gap: {ago: [1]}});
    take("n 1");
    Math.random = () => 0.5;
    await last().lose();
    await pass(75); // not 5000, and the first back-off
    assert.equal(sockets.length, 2);
    client.close();
  },
  async "a wait that the server tells is no failed attempt"() {
    const client = connect({minBackoff: 100, maxBackoff: 1e6});
    Math.random = () => 0.5;
    for (let i = 0; i < 5; i++) {
      await last().open();
      await last().message({reconnect: {wait: 10}});
      await last().lose();
      await pass(10);
    }
    assert.equal(sockets.length, 6);
    await last().lose();
    await pass(75);
    assert.equal(sockets.length, 7);
    client.close();
  },
  async "a gap that comes while another one waits becomes part of it"() {
    const gaps = [];
    const client = connect({minBackoff: 100, gapSpread: 0, ongap: () => {}, refetch: (_, gap) => { gaps.push(gap); }});
    Math.random = () => 0.5;
    await last().open();
    await last().message({gap: {ago: [60000, 50000], wait: 1000}});
    const told = now;
    await last().lose();
    await pass(75);
    await last().open();
    const back = now;
    await pass(425);
    assert.deepEqual(gaps.map(g => [g.room, told - g.since, g.until - back, g.away]), [["", 62000, 0, true]]);
    client.close();
  },
  async "rooms without end whose gaps go on become one gap of everything"() {
    const gaps = [];
    const client = connect({minBackoff: 100, ongap: (_, gap) => { gaps.push(gap); }});
    await last().open();
    for (let i = 0; i < 1000; i++) await last().message({gap: {room: `r${i}`, ago: [1]}});
    await last().message({gap: {room: "x", ago: [60000]}});
    await last().message({gap: {room: "x", ago: [60000, 0], ends: true}});
    await last().lose();
    await pass(100);
    await last().open();
    assert(now - gaps.at(-1).since > 60000, "it is not forgotten");
    client.close();
  },
  async "joins in onconnect"() {
    const client = connect({onconnect: client => client.join("room")});
    for (let i = 0; i < 3; i++) {
      await last().open();
      assert.equal(await answer(), "+room");
      await settled();
      assert.deepEqual(last().sent, []);
      await last().lose();
      await pass(1000);
    }
    client.close();
  },

  async "gives up"() {
    const outcome = collector();
    const client = connect({
      awayBytes: 1000, onstate: (client, s) => { assert.equal(client.state, s); note(s); },
      ongiveup: (_, reason) => note("stopped:", reason),
    });
    assert.equal(client.state, "connecting");
    outcome.of("early", client.join("room"));
    outcome.of("request", client.request("x"));
    for (const code of [1000, 1008, 4000, 4002]) {
      await last().lose("not now", code);
      await pass(10000);
      take("waiting", "retry not now", "connecting");
    }
    await last().lose("banned", 4001);
    take("gave up", "stopped: banned");
    outcome.of("late", client.join("room"));
    outcome.of("request", client.request("x"));
    outcome.of("leave", client.leave("room"));
    assert.throws(() => client.emit("x"), {code: "gave up", message: "banned"});
    const n = sockets.length;
    await pass(100000);
    outcome.take("request: timeout", "early: gave up", "late: gave up", "request: gave up", "leave: gave up");
    assert.equal(sockets.length, n);
    client.close();
    assert.equal(client.state, "gave up");
    take();
    assert.equal(timers.length, 0);
    // By choice, and after it was connected.
    const choice = connect({giveUp: (client, reason) => reason === "enough", onstate: (_, s) => note(s)});
    await last().open();
    take("connected");
    await last().lose("banned", 4001);
    take("waiting", "disconnected banned");
    await pass(1000);
    await last().open();
    happened = [];
    await last().lose("enough");
    take("disconnected enough", "gave up");
    // An exception is no decision.
    const broken = connect({giveUp: () => { throw new Error("broken"); }});
    const error = console.error;
    console.error = () => {};
    await last().lose();
    console.error = error;
    assert.equal(broken.state, "waiting");
    broken.close();
    assert.equal(broken.state, "closed");
    choice.close();
  },

  async "requests while away"() {
    const outcome = collector(), client = connect({awayBytes: 1000, requestTimeout: 5000});
    const data = [1];
    outcome.of("first", client.request("first", data));
    data.push(2); // too late
    outcome.of("short", client.request("short", 1, {timeout: 10}));
    outcome.of("second", client.request("second"));
    outcome.of("large", client.request("large", "x".repeat(300)));
    outcome.of("lost", client.request("lost"));
    assert.throws(() => client.emit("x"), {code: "not connected"});
    const joined = client.join("room");
    await pass(10);
    outcome.take("large: not connected", "lost: not connected", "short: timeout");
    outcome.of("lost", client.request("lost"));
    await last().open();
    assert.deepEqual(last().sent, [{join: "room", id: 1}]);
    await last().message({id: 1});
    await joined;
    await settled();
    assert.deepEqual(last().sent.slice(1).map(m => m.event), ["first", "second", "lost"]);
    assert.deepEqual(last().sent[1], {event: "first", data: [1], id: 2});
    await last().message({id: 2});
    await pass(4991);
    outcome.take("first", "second: timeout");
    await last().lose();
    outcome.of("closed", client.request("x"));
    client.close();
    await settled();
    outcome.take("lost: uncertain", "closed: closed");
    assert.equal(timers.length, 0);
  },

  async "join and leave: the last call counts"() {
    const outcome = collector(), client = connect();
    await last().open();
    outcome.of("join", client.join("a"));
    outcome.of("leave", client.leave("a"));
    outcome.of("again", client.join("a"));
    assert.equal(await answer(), "+a -a +a");
    assert.deepEqual(client.rooms, ["a"]);
    outcome.take("join: left", "leave", "again");
    outcome.of("leave", client.leave("a", {timeout: 5}));
    await pass(5);
    outcome.take("leave: timeout");
    assert.deepEqual(client.rooms, []);
    client.close();
  },

  async "replies to acknowledged emissions"() {
    let later;
    const client = connect();
    client.on("value", x => x + 1).on("nothing", () => {}).on("throws", () => { throw new Error("cannot"); })
      .on("rejects", () => Promise.reject(new Error("later"))).on("cyclic", () => { const a = []; a.push(a); return a; })
      .on("waits", () => new Promise(resolve => { later = resolve; }));
    await last().open();
    let id = 0;
    for (const event of ["value", "nothing", "throws", "rejects", "cyclic", "unknown", "waits", "value"]) {
      await last().message({event, data: 1, id: ++id});
    }
    later("at last");
    await settled();
    const sent = last().sent;
    assert.match(sent[4].error, /circular/);
    delete sent[4].error;
    assert.deepEqual(sent, [
      {id: 1, data: 2}, {id: 2}, {id: 3, error: "cannot"}, {id: 4, error: "later"}, {id: 5},
      {id: 6, error: "no handler"}, {id: 8, data: 2}, {id: 7, data: "at last"},
    ]);
    assert.deepEqual(happened.map(h => h.split(" ")[1]), ["throws", "rejects", "cyclic"]);
    client.close();
  },

  async "back-off: doubles up to the limit, with jitter, and begins anew after a connection that lasted"() {
    const waits = [];
    const client = connect({onretry: (_, reason, wait) => waits.push(wait), ondisconnect: () => waits.push("lost")});
    for (const r of [0, 0.999, 0, 0, 0, 0, 0, 0]) {
      Math.random = () => r;
      await last().lose();
      await pass(10000);
    }
    assert.deepEqual(waits.map(Math.round), [125, 500, 500, 1000, 2000, 4000, 5000, 5000]);
    const next = async lasted => {
      await last().open();
      await pass(lasted);
      await last().lose();
      const n = sockets.length, begin = now;
      while (sockets.length === n) await pass(1);
      return now - begin;
    };
    Math.random = () => 0;
    assert.equal(await next(60000), 125);
    assert.equal(await next(100), 250);
    client.close();
  },

  async "lost while joining, and what comes of a connection afterwards"() {
    let joined;
    const client = connect({
      events: {n: n => note("n", n)},
      onconnect: () => new Promise(resolve => { joined = resolve; }),
    });
    await last().open();
    await last().message({event: "n", data: 1});
    const old = last();
    await old.lose();
    joined();
    await settled();
    await old.message({event: "n", data: 2});
    await old.lose("again");
    take("retry ");
    assert(!client.connected);
    client.close();
  },

  async "a gap begins a margin before the last message, or with the connection"() {
    const client = connect({minBackoff: 1000, maxBackoff: 1000, gapMargin: 2000});
    Math.random = () => 0; // 500 ms
    await last().open();
    for (const [lasted, gap] of [[10000, 2000], [700, 700]]) {
      await pass(lasted);
      await last().message({event: "unknown"});
      await pass(1000);
      await last().lose();
      await pass(500);
      await last().open();
      take("disconnected ", `gap ${gap + 1000 + 500}`);
    }
    client.close();
  },

  async "gaps that the server reports, in their place"() {
    const client = connect({
      events: {n: n => note("n", n)}, gapSpread: 100,
      ongap: (_, {room, since, until, away, wait}) => note("gap", room, now - since, until && now - until, away, wait),
    });
    Math.random = () => 0.5;
    await last().open();
    for (const m of [
      {event: "n", data: 1}, {gap: {room: "r", ago: [4200, 300], wait: 800}}, {event: "n", data: 2}, {gap: {ago: [10]}},
      {event: "n", data: 3, gap: {ago: [1]}}, {id: 7, gap: {ago: [1]}},
      {gap: {ago: []}}, {gap: {ago: [-1]}}, {gap: {ago: ["1"]}}, {gap: {ago: [1, 2, 3]}}, {gap: 7}, {gap: {ago: [1], wait: 1e300}},
    ]) await last().message(m);
    take("n 1", "gap r 6200 300 false 400", "n 2", "gap  2010  false 0", "n 3", ...Array(6).fill("error  malformed gap"));
    await last().lose();
    take("disconnected ");
    await pass(10000);
    await last().open();
    take("gap  12010 0 true 50");
    client.close();
  },

  async "a gap that goes on becomes part of the absence"() {
    const open = {gap: {ago: [60000]}}, fetched = [];
    for (const [messages, want] of [
      [[], 6000], [[open], 62000], [[{gap: {room: "r", ago: [60000]}}, {gap: {ago: [50000]}}], 62000],
      [[{gap: {ago: [50000]}}, open, {gap: {ago: [40000]}}], 62000],
      [[open, {gap: {ago: [1000, 0]}}, {gap: {room: "r", ago: [1, 0], ends: true}}], 62000],
      [[open, {gap: {ago: [60000, 0], ends: true}}], 6000], [[{gap: {ago: [1000]}}], 6000],
    ]) {
      let absence;
      const client = connect({
        gapSpread: 0, ongap: (_, gap) => { if (gap.away) absence = gap; }, refetch: (_, gap) => { fetched.push(gap); },
      });
      await last().open();
      for (const after of [want, 6000]) {
        await pass(3600000);
        if (after === want) for (const m of messages) await last().message(m);
        await last().message({event: "x"});
        await pass(0);
        assert(fetched.every(gap => gap.until));
        const lost = now;
        await last().lose();
        await pass(10000);
        await last().open();
        await pass(0);
        assert.deepEqual([absence.room, lost - absence.since, now - absence.until], ["", after, 0], JSON.stringify(messages));
        assert.deepEqual(fetched.at(-1), absence);
      }
      client.close();
    }
  },

  async "a report that comes before the rooms are joined is not lost with the connection"() {
    let joined = () => {};
    const client = connect({onconnect: () => new Promise(resolve => { joined = resolve; })});
    await last().open();
    joined();
    await settled();
    await last().lose();
    await pass(10000);
    await last().open();
    await last().message({gap: {ago: [60000, 0]}});
    const told = now;
    await last().lose();
    await pass(10000);
    await last().open();
    joined();
    await settled();
    take("disconnected ", "retry ", `gap ${now - told + 62000}`);
    client.close();
  },

  async "refetch: after the wait, once for each room, and again after an error, with a connection"() {
    let fail = null;
    const client = connect({
      minBackoff: 8000, maxBackoff: 16000, ongap: undefined, gapSpread: 0,
      refetch: (_, {room, since, until, away}) => {
        note("refetch", room, now - since, until ? "ends" : "goes on", away);
        if (fail) return Promise.reject(fail);
      },
    });
    Math.random = () => 0.5;
    await last().open();
    await last().message({gap: {room: "a", ago: [1000, 500], wait: 120000}});
    await last().message({gap: {room: "b", ago: [1000, 0], wait: 120000}});
    await last().message({gap: {room: "open", ago: [1000]}}); // when it has ended
    await last().message({gap: {room: "a", ago: [5000, 0], wait: 120000}});
    await pass(59999);
    take();
    await pass(1);
    take("refetch a 67000 ends false", "refetch b 63000 ends false");
    fail = new Error("no luck");
    await last().message({gap: {room: "a", ago: [1000, 0]}});
    await pass(0);
    take("refetch a 3000 ends false", "error refetch no luck");
    await pass(6000); // 8 s and a half of it
    take("refetch a 9000 ends false", "error refetch no luck");
    fail = null;
    await last().lose();
    take("disconnected ");
    await pass(14000); // it is due after 12 s
    take();
    await last().open();
    take("refetch a 23000 ends false");
    await pass(0);
    assert.deepEqual(happened.map(h => h.split(" ")[0]), ["refetch"]);
    happened = [];
    await last().message({gap: {room: "a", ago: [1000, 0], wait: 1000}});
    client.close();
    assert.equal(timers.length, 0);
    take();
  },

  async "rooms without end that a server names become one gap"() {
    let calls = 0;
    const client = connect({ongap: undefined, refetch: () => { calls++; }});
    await last().open();
    for (let i = 0; i < 3000; i++) last().onmessage({data: JSON.stringify({gap: {room: `r${i}`, ago: [1, 0], wait: 1000}})});
    await pass(1000);
    assert.equal(calls, 1001);
    client.close();
  },

  async "online, and visible again: the attempt that waits is made at once"() {
    const listeners = {};
    const add = (event, f) => { listeners[event] = f; };
    const remove = (event, f) => { if (listeners[event] === f) delete listeners[event]; };
    globalThis.addEventListener = add;
    globalThis.removeEventListener = remove;
    globalThis.document = {visibilityState: "visible", addEventListener: add, removeEventListener: remove};
    const client = connect();
    for (const event of ["online", "visibilitychange"]) {
      listeners[event](); // an attempt is under way
      await last().open();
      listeners[event](); // and a connection stands
      assert.equal(timers.length, 0);
      const n = sockets.length;
      await last().lose();
      document.visibilityState = "hidden";
      listeners[event]();
      assert.equal(sockets.length, n);
      document.visibilityState = "visible";
      listeners[event]();
      assert.equal(sockets.length, n + 1);
      await pass(9000); // the timer has been stopped
      assert.equal(sockets.length, n + 1);
    }
    client.close();
    assert.deepEqual(listeners, {});
    for (const name of ["addEventListener", "removeEventListener", "document"]) delete globalThis[name];
  },

  async "bytes, with and without the subprotocol"() {
    const bytes = text => Uint8Array.from(text, c => c.charCodeAt(0)), got = [];
    for (const protocol of ["crosscast.json.1", ""]) {
      FakeSocket.protocol = protocol;
      const client = connect({awayBytes: 1000, events: {x: b => { got.push(b); return b; }}});
      const early = client.request("early", bytes("ab"));
      assert.deepEqual(last().protocols, ["crosscast.json.1"]);
      assert.equal(last().binaryType, "arraybuffer");
      await last().open();
      client.emit("e", bytes("a\0\xff"));
      client.emit("e", bytes("-a-").subarray(1, 2));
      client.emit("e", bytes("b").buffer);
      client.emit("e", [bytes("n")]);
      const reply = client.request("e", new DataView(bytes("c").buffer));
      const message = text => last().message(bytes(text).buffer);
      if (protocol) {
        assert.deepEqual(last().sent.splice(0), [
          `{"event":"early","id":1}\0ab`, `{"event":"e"}\0a\0\xff`, `{"event":"e"}\0a`, `{"event":"e"}\0b`, {event: "e", data: ["bg=="]},
          `{"event":"e","id":2}\0c`,
        ]);
        await message(`{"id":1}\0`);
        await message(`{"id":2}\0\xff`);
        await message(`{"event":"x","id":7}\0\0d`);
        assert.deepEqual(last().sent.splice(0), [`{"id":7}\0\0d`]);
        assert.deepEqual([await early, await reply, got.pop()], [bytes(""), bytes("\xff"), bytes("\0d")]);
        for (const bad of ["", "{}", "x\0x"]) await message(bad);
        assert.equal(happened.splice(0).length, 3);
        assert(client.connected);
      } else {
        assert.deepEqual(last().sent.splice(0).map(m => m.data), ["YWI=", "YQD/", "YQ==", "Yg==", ["bg=="], "Yw=="]);
        await last().message({id: 1, data: "YQ=="});
        assert.equal(await early, "YQ==");
        reply.catch(() => {});
      }
      client.close();
    }
    delete FakeSocket.protocol;
  },

  async "what cannot be sent"() {
    const client = connect({writeLimit: 100, awayBytes: 1000, events: {long: () => "x".repeat(200), blob: () => new Blob([])}});
    const early = client.request("early", "x".repeat(200)).catch(error => error.code);
    await assert.rejects(client.request("e", new Blob(["x"])), {name: "TypeError", message: /arrayBuffer\(\)/});
    await last().open();
    assert.equal(await early, "too large");
    client.emit("e", "x".repeat(77)); // 100 bytes
    assert.throws(() => client.emit("e", "x".repeat(78)), {name: "ClientError", code: "too large", message: "too large: 101 bytes (at most 100)"});
    assert.throws(() => client.emit("e", "ä".repeat(40)), {code: "too large"});
    assert.throws(() => client.emit("e", new Uint8Array(100)), {code: "too large"});
    await assert.rejects(client.request("e", "x".repeat(100)), {code: "too large"});
    for (const data of [new Blob(["x"]), {files: [new File(["x"], "x.png")]}]) {
      assert.throws(() => client.emit("e", data), {name: "TypeError", message: /arrayBuffer\(\)/});
      await assert.rejects(client.request("e", data), TypeError);
    }
    assert.equal(last().sent.splice(0).length, 1);
    await last().message({event: "long", id: 1});
    await last().message({event: "blob", id: 2});
    assert.deepEqual(last().sent.splice(0).map(m => m.error.slice(0, 9)), ["too large", "a Blob or"]);
    take("error long too large: 218 bytes (at most 100)", "error blob a Blob or File cannot be sent: send await blob.arrayBuffer()");

    const name = "x".repeat(200); // a room that cannot be joined does not hold up the connection
    await assert.rejects(client.join(name), {code: "too large"});
    const room = client.join("r");
    client.presence("r".repeat(90), () => {});
    await settled();
    take(`error presence room "${"r".repeat(90)}": too large: 109 bytes (at most 100)`);
    await answer();
    await room;
    assert.equal(client.state, "connected");
    client.close();

    const limited = connect();
    const long = assert.rejects(limited.join("x".repeat(2 ** 20)), {code: "too large"}); // the default, on the first connection
    await last().open();
    await long;
    assert.equal(limited.state, "connected");
    limited.close();
  },

  async "the server's error about an emit"() {
    const client = connect();
    await last().open();
    await last().message({event: "error", data: {message: "say: internal error"}});
    await last().message({event: "error", data: "of the application"});
    await last().message({event: "other", data: 1});
    take("error error say: internal error", "error error of the application");
    client.on("error", ({message}) => note("handled", message));
    await last().message({event: "error", data: {message: "say: internal error"}});
    take("handled say: internal error");
    client.close();
  },

  async "failures to join, to answer, and to make sense"() {
    let fail = true;
    const client = connect({onconnect: () => { if (fail) throw new Error("refused"); }});
    await last().open();
    take("retry refused");
    assert.equal(last().code, 1000);
    await pass(1000);
    await pass(10000); // the second attempt is not answered
    take("retry no answer");
    fail = false;
    await pass(1000);
    await last().open();
    for (const m of ["{", "null", "7", "{}", `{"id":-1}`, `{"error":"x"}`]) await last().message(m);
    assert.equal(happened.length, 1);
    assert(client.connected);
    client.close();
    await pass(100000);
    assert.equal(last().code, 1000);
    assert.equal(happened.length, 1);
    assert.equal(sockets.length, 3);
  },

  async "presence: all members, changes, a hole, too many, a reconnect, a gap, a refusal"() {
    const client = connect();
    const told = ({members, count, joined, changed, left}) => note(
      "now", members ? [...members].map(([user, data]) => user + (data ?? "")).sort() : "?", count, "+" + joined, "~" + changed, "-" + left);
    const update = m => last().message({presence: {room: "r", ...m}});
    await last().open();
    const joined = client.join("r");
    const stop = client.presence("r", told); // follows the join
    assert.deepEqual(last().sent, [{join: "r", id: 1}]);
    await last().message({id: 1});
    await joined;
    assert.deepEqual(last().sent.slice(1), [{watch: "r", id: 2}]);
    await update({at: 6, count: 2, set: [["eve"]]}); // not asked for: all members come first
    await update({at: 7, count: 2, all: [["ann", 1], ["bob"]]});
    take("now ann1,bob 2 +ann,bob ~ -");
    await last().message({id: 2});
    await update({at: 8, count: 2, set: [["ann", 2], ["eve"]], left: ["bob"]});
    take("now ann2,eve 2 +eve ~ann -bob");
    const other = client.presence("r", told);
    take("now ann2,eve 2 +ann,eve ~ -");
    other();
    await update({at: 10, count: 1, left: ["eve"]}); // one is missing
    take();
    assert.deepEqual(last().sent.slice(2), [{watch: "r", id: 3}]);
    await update({at: 11, count: 0, left: ["ann"]});
    await update({at: 12, count: 1, all: [["eve"]]});
    take("now eve 1 + ~ -ann");
    await update({at: 13, count: 1500});
    take("now ? 1500 + ~ -");
    await update({at: 14, count: 1, all: [["eve"]]});
    take("now eve 1 +eve ~ -");

    await last().lose();
    take("disconnected ");
    await pass(500);
    await last().open();
    assert.deepEqual(last().sent, [{join: "r", id: 4}]);
    await last().message({id: 4});
    assert.deepEqual(last().sent.slice(1), [{watch: "r", id: 5}]);
    happened = [];
    await update({at: 1, count: 2, all: [["bob"], ["eve", 3]]}); // of another server
    take("now bob,eve3 2 +bob ~eve -");
    await last().message({gap: {ago: [50, 0], wait: 1000}});
    happened = [];
    await pass(1000);
    assert.deepEqual(last().sent.slice(2), [{watch: "r", id: 6}]);
    await last().message({id: 6, error: "busy", retry: true});
    await pass(1000);
    assert.deepEqual(last().sent.slice(3), [{watch: "r", id: 7}]);
    await last().message({id: 7, error: "not in the room"});
    take('error presence room "r": not in the room');
    stop();
    stop();
    assert.deepEqual(last().sent.slice(4), [{unwatch: "r", id: 8}]);
    await update({at: 1, count: 2, all: [["bob"]]});
    client.presence("lobby", told); // which the server has joined
    assert.deepEqual(last().sent.slice(5), [{watch: "lobby", id: 9}]);
    await last().lose();
    await pass(500);
    await last().open();
    await last().message({id: 10}); // the join of r
    assert.deepEqual(last().sent.slice(1), [{watch: "lobby", id: 11}]);
    client.close();
    assert.throws(() => client.presence("r", told));
    happened = [];
  },
};

for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
  } catch (error) {
    console.log(`FAILED: ${name}\n`, error);
    process.exitCode = 1;
  }
}
