// What a target with flags is in Socket.IO's own words, for whatever has to, except, volatile and compress: a server's
// namespace, a server's socket, an emitter.

// operator applies a target {to, except, local, volatile, compress, timeout}.
export function operator(from, t) {
  let o = from;
  if (t.to?.length) o = o.to(t.to.length === 1 ? t.to[0] : t.to);
  if (t.except?.length) o = o.except(t.except);
  if (t.local) o = o.local;
  if (t.volatile) o = o.volatile;
  if (t.compress !== undefined) o = o.compress(t.compress);
  if (t.timeout !== undefined) o = o.timeout(t.timeout);
  return o;
}

// emissions are the operations that servers and emitters share. of returns what a target is applied to.
export function emissions(of) {
  return {
    emit: ({ target, event, args }) => void operator(of(target), target).emit(event, ...args),
    join: ({ target, rooms }) => void operator(of(target), target).socketsJoin(rooms),
    leave: ({ target, rooms }) => void operator(of(target), target).socketsLeave(rooms),
    disconnect: ({ target, close }) => void operator(of(target), target).disconnectSockets(close),
    serverSideEmit: ({ target, event, args }) => void of(target).serverSideEmit(event, ...args),
  };
}
