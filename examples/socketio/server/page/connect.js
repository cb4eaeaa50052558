// connect is how the page reaches its server: with socket.io-client.
function connect(name, { events, onconnect, ongap, ondisconnect, onretry }) {
  const socket = io({ transports: ["websocket"], query: { name } });
  const client = {
    async request(event, data) {
      const answer = await socket.timeout(10_000).emitWithAck(event, data);
      if (answer?.error) throw new Error(answer.error);
    },
  };
  let heard, lost; // when the server was heard last, and that time for as long as the connection is lost
  const hear = () => heard = new Date();
  socket.io.on("ping", hear);
  socket.onAny(hear);
  for (const [event, handler] of Object.entries(events)) socket.on(event, handler);
  socket.on("gap", ({ ago: [begin, end] }) => { // in ms before it was sent
    const before = ms => ms === undefined ? null : new Date(Date.now() - ms);
    ongap(client, { since: before(begin), until: before(end), away: false });
  });
  socket.on("connect", async () => {
    const since = lost;
    lost = undefined;
    hear();
    try {
      await onconnect(client);
    } catch (e) {
      events.error(e);
    }
    if (since) ongap(client, {since, until: new Date(), away: true});
  });
  socket.on("disconnect", reason => {
    lost ??= heard;
    ondisconnect(reason);
    if (!socket.active) socket.connect(); // the server has disconnected it; otherwise it tries by itself
  });
  socket.on("connect_error", onretry);
  return client;
}
